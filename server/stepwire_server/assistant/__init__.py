"""System V as an app: queries on German public administration, answered from documents."""
