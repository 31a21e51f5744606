"""`/admin/doctor`: what the service finds when it looks at itself, and `/admin/reconcile`."""

import os

from litestar import Controller
from msgspec import Struct

from app.api.given import Running
from app.api.routes import get, post
from app.doctor.examine import examine_service
from app.doctor.findings import Report


class DoctorAnswer(Struct):
    doctor: Report


class ReconcileObject(Struct):
    cells_mended: int


class ReconcileAnswer(Struct):
    reconcile: ReconcileObject


class DoctorController(Controller):
    tags = ["admin"]

    @get("/doctor")
    def examine(self, service: Running) -> DoctorAnswer:
        """Settings, machine, stores and what they hold, each with a status and what to do about it. All events are compared
        with their rollups, which takes a while where there are many."""
        return DoctorAnswer(examine_service(service, os.environ))

    @post("/reconcile")
    def reconcile(self, service: Running) -> ReconcileAnswer:
        """Compare all rollups with the events, however old, and mend the hourly cells that differ; answers how many did."""
        return ReconcileAnswer(ReconcileObject(service.upkeep.mend_everything()))
