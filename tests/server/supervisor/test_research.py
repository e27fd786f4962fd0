"""What the research agent finds in documents."""

from __future__ import annotations

from pathlib import Path

from stepwire_server.supervisor.agents.research import passages


def test_passages_are_found_among_other_files(tmp_path: Path) -> None:
    """Files of other kinds do not count, and one that can't be read keeps nobody from the rest."""
    for number in range(250):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "a.md").symlink_to("/proc/self/mem")
    (tmp_path / "b.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "z.md").write_text("Nothing of it.\n\nA leap year has 366 days.\n", "utf-8")
    assert passages(tmp_path, "days of a leap year") == [{"file": "z.md", "text": "A leap year has 366 days."}]
