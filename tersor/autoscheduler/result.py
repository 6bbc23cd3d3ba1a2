"""Result: what a search gives, its library and plans, and how its story becomes a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tersor.autoscheduler.page.page import write_search_page
from tersor.autoscheduler.report import SearchReport
from tersor.compiler import Compiled
from tersor.plan import Plan
from tersor.replace import replacing
from tersor.report import Report


@dataclass(frozen=True)
class Searched:
    """The compiled network with its plan, the plans of the front by name, and what was found on the way."""

    compiled: Compiled
    front: Mapping[str, Plan]
    report: SearchReport

    @property
    def plan(self) -> Plan:
        """The plan that was chosen."""
        return self.compiled.plan

    def save(self, directory: str | Path) -> Report:
        """Write what `Compiled.save` does, the plans of the front, and the report as JSON and HTML.

        All of it or nothing. Raises UserError if `directory` cannot be written.
        """
        with replacing(directory) as staging:
            report = self.compiled.write(staging)
            for name, plan in self.front.items():
                plan.save(staging / f"{name}.json")
            self.report.save(staging / "search.json")
            write_search_page(self.report, staging / "report.html")
        return report
