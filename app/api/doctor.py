"""`/admin/doctor`: what the service finds when it looks at itself, and `/admin/reconcile`."""

import os

from litestar import Controller
from msgspec import Struct

from app.api.given import Db, Running
from app.api.routes import get, post
from app.doctor.examine import examine_service
from app.doctor.findings import Report
from app.metering.upkeep import reconcile_everything


class DoctorAnswer(Struct):
    doctor: Report


class ReconcileObject(Struct):
    within_seconds: int


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
    def reconcile(self, db: Db, service: Running) -> ReconcileAnswer:
        """Have all rollups compared with the events, and mended where they differ. It is begun within so many seconds."""
        reconcile_everything(db)
        return ReconcileAnswer(ReconcileObject(service.settings.reconcile_seconds))
