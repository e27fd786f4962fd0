"""A graph as LangGraph's documentation has them: an outline, a check of it, and a text that a model writes."""

from itertools import repeat

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from stepwire_server import App
from stepwire_server.bridges import langgraph_operation

STORY = " ".join(f"On day {day} the ferry crossed the lake {day % 7} times." for day in range(1, 101))
model = GenericFakeChatModel(messages=repeat(AIMessage(STORY)))  # In its place stands yours.


async def outline(state: MessagesState):
    return {"messages": [("assistant", f"An outline of: {state['messages'][-1].text}")]}


def good_enough(state: MessagesState):
    return "write" if "lake" in state["messages"][-1].text else END


async def write(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node(outline).add_node(write).add_edge(START, "outline")
graph = graph.add_conditional_edges("outline", good_enough, ["write", END]).compile()

app = App("stories")
langgraph_operation(app, "story", graph)
