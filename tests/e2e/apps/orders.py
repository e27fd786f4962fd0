"""The app of the recorded session: an import in parts that fails once, a question, a payment that takes its time."""

from __future__ import annotations

import asyncio
import os

from stepwire_server import App, Plan, Retry, StepContext, SubstepContext, plan_step

app = App("orders", description="An import, an approval and a payment.")

_PACE = float(os.environ.get("ORDERS_PACE", "1"))
"""Seconds that a piece of work takes, roughly."""


@app.operation("import", retry=Retry(attempts=2))
async def import_(step: StepContext) -> int:
    """Import the orders."""
    await step.substeps({"Download": 1, "Check": 3})
    async with step.substep("Download") as download:
        async for _ in download.track(range(40), "files"):
            await asyncio.sleep(_PACE / 20)
    async with step.substep("Check") as check:
        await check.substeps(["Addresses", "Prices"])
        async with check.substep("Addresses") as addresses:
            await asyncio.gather(*(_look_up(addresses, kind) for kind in ("Streets", "Towns")))
        async with check.substep("Prices"):
            await asyncio.sleep(_PACE)
            if step.attempt == 1:
                raise OSError("the price list is locked")
    return 40


async def _look_up(addresses: SubstepContext, kind: str) -> None:
    async with addresses.substep(kind) as part:
        await part.progress(50, "Looking them up")
        await asyncio.sleep(_PACE)


@app.operation("approve")
async def approve(step: StepContext, count: int) -> str:
    """Ask whether the orders may be paid."""
    answer: str = await step.ask(f"Pay {count} orders?", choices=["yes", "no"])
    return answer


@app.operation("pay")
async def pay(step: StepContext) -> None:
    """Pay."""
    async with step.substep("3-D Secure", weight=2) as secure:
        await secure.progress(50, "Waiting for the bank")
        async with secure.substep("Challenge"):
            await asyncio.sleep(60 * _PACE)


@app.plan("evening")
def evening() -> Plan:
    """Import the day's orders, have them approved, and pay them."""
    return Plan(
        name="Evening",
        steps=[
            plan_step("import", "import", name="Import the orders", weight=3),
            plan_step("approve", "approve", name="Approve", input={"count": 40}, depends_on=["import"]),
            plan_step("pay", "pay", name="Pay", depends_on=["approve"]),
        ],
    )
