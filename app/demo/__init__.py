"""The demo: a year of New York's departures, sent over HTTP, billed to its airlines, and checked to the cent."""

from rich.console import Console

INSTALL = "pip install 'meterhouse\\[demo]'"


def run_demo(base_url: str, admin_key: str, console: Console) -> bool:
    """Run the demo on a running service; whether every invoice is what the independent check says."""
    try:
        from app.demo.run import run_demo as run  # noqa: PLC0415 (what it imports may not be installed)
    except ModuleNotFoundError as error:
        console.print(f"The demo needs the package {error.name}: {INSTALL}", highlight=False)
        return False
    return run(base_url, admin_key, console)
