"""One process of Meterhouse, from start to stop: HTTP server, ingest, upkeep and scheduler in one event loop."""

import asyncio
import gc
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog
import uvloop
from apscheduler.executors.pool import ThreadPoolExecutor as SchedulerThreads
from apscheduler.schedulers.background import BackgroundScheduler
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar.concurrency import set_asyncio_executor
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.due import LIVE
from app.clock import system_now
from app.config import Settings
from app.customers.api_keys import digest
from app.customers.organizations import create_organization
from app.errors import StoreDown
from app.listening import base_url, check_port, until_listening
from app.models import Organization, Setting
from app.server import make_application
from app.service import Service, open_service

ADMIN_KEY = "admin_key"
FIRST_ORGANIZATION = "My organization"
STOP_SECONDS = 5.0
SWITCH_SECONDS = 0.0005
CHECK_SECONDS = 60

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Started:
    """What a start has to tell. The keys are set only where they were made by this start, and cannot be shown again."""

    base_url: str
    organization_key: str | None
    admin_key: str | None
    process_admin_key: str
    """An admin key that this process alone accepts, for what runs inside it."""


def run(
    settings: Settings,
    *,
    http: bool = True,
    scheduler: bool = True,
    first_keys: bool = True,
    on_ready: Callable[[Started], Awaitable[bool]] | None = None,
) -> None:
    """Run until interrupted, or until `on_ready` returns False.

    `first_keys`: make the first organization and the admin key if there are none, for `on_ready` to show.

    Raises:
        CannotStart: with one line that says why and what to do.
    """
    if http:
        check_port(settings.host, settings.port)
    # Threads that come back from a store want the interpreter at once, not after the default 5 ms.
    sys.setswitchinterval(SWITCH_SECONDS)
    service = open_service(settings)
    handlers = ThreadPoolExecutor(max(4, settings.database_connections), thread_name_prefix="handler")
    set_asyncio_executor(handlers)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(service, http=http, scheduler=scheduler, first_keys=first_keys, on_ready=on_ready))
    finally:
        handlers.shutdown(wait=False, cancel_futures=True)
        service.close()


def in_service(settings: Settings, work: Callable[[Service], T]) -> T:
    """Do something in a service that takes no requests and has no scheduler, and give what comes of it.

    Raises:
        CannotStart: with one line that says why and what to do.
    """
    service = open_service(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_in_service(service, work))
    finally:
        service.close()


async def _in_service(service: Service, work: Callable[[Service], T]) -> T:
    await service.start(takes_events=False)
    try:
        return await asyncio.to_thread(work, service)
    finally:
        await service.stop()


async def _run(
    service: Service,
    *,
    http: bool,
    scheduler: bool,
    first_keys: bool,
    on_ready: Callable[[Started], Awaitable[bool]] | None,
) -> None:
    settings = service.settings
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    started = await asyncio.to_thread(first_start, service, make=first_keys)
    await service.start(takes_events=http)
    server, serving = None, None
    if http:
        application = make_application(service, {*admin_digests(service), digest(started.process_admin_key)})
        server = Server(
            application,
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGI,
            log_enabled=False,
            backlog=1024,
        )
        serving = asyncio.create_task(server.serve())
        await until_listening(settings.host, settings.port, serving)
    calm_garbage_collection()
    jobs = _schedule(service) if scheduler else None
    try:
        await _until_stopped(stopped, serving, on_ready, started)
    finally:
        service.stopping.set()
        if jobs is not None:
            jobs.shutdown(wait=False)
        if server is not None and serving is not None:
            server.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait([serving], timeout=STOP_SECONDS)
        await service.stop()


def calm_garbage_collection() -> None:
    """What a start has made stays, and so do compiled plans: looking through all of it for garbage again and again would
    hold up every thread for as long as a read takes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


async def _until_stopped(
    stopped: asyncio.Event,
    serving: asyncio.Task[None] | None,
    on_ready: Callable[[Started], Awaitable[bool]] | None,
    started: Started,
) -> None:
    waiting: set[asyncio.Task[object]] = {asyncio.create_task(_wait(stopped))}
    if serving is not None:
        waiting.add(serving)
    if on_ready is not None:
        work: asyncio.Task[object] = asyncio.create_task(_ready(on_ready, started, stopped))
        waiting.add(work)
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if work in done and not stopped.is_set():
            work.result()
            waiting.discard(work)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    else:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _ready(on_ready: Callable[[Started], Awaitable[bool]], started: Started, stopped: asyncio.Event) -> None:
    if not await on_ready(started):
        stopped.set()


def first_start(service: Service, *, make: bool) -> Started:
    """What a start has to tell; with `make`, the first organization and the admin key are made where there are none."""
    settings = service.settings
    organization_key, admin_key = None, None
    if make:
        # Of several processes that start at once on the same servers only one makes them.
        with service.postgres.start_lock(), service.postgres.session() as db:
            admin_key = _admin_key(db, settings)
            if not db.scalar(select(func.count()).select_from(Organization)):
                _, organization_key = create_organization(db, name=FIRST_ORGANIZATION, sandbox=False, now=system_now())
    return Started(base_url(settings), organization_key, admin_key, secrets.token_urlsafe(32))


def _admin_key(db: Session, settings: Settings) -> str | None:
    """The admin key if it is made now: only its digest is kept. One from the settings goes before."""
    if settings.admin_key or db.get(Setting, ADMIN_KEY) is not None:
        return None
    key = secrets.token_urlsafe(32)
    db.add(Setting(name=ADMIN_KEY, value={"digest": digest(key)}))
    return key


def admin_digests(service: Service) -> list[str]:
    """The digest of the admin key that is in force, if there is one yet."""
    if service.settings.admin_key:
        return [digest(service.settings.admin_key)]
    with service.postgres.session() as db:
        kept = db.get(Setting, ADMIN_KEY)
        return [] if kept is None else [str(kept.value["digest"])]


def _schedule(service: Service) -> BackgroundScheduler:
    """Run what is due every few seconds, keep wallets up, and look for events to check; of each one run at a time."""
    jobs = BackgroundScheduler(executors={"default": SchedulerThreads(3)}, timezone="UTC")
    every = service.settings.scheduler_seconds
    works = [(_run_due, every), (_watch_usage, every), (_keep_wallets, every), (_check_events, CHECK_SECONDS)]
    if not service.clickhouse.embedded:
        works.append((_bill_in_advance, every))
    for work, seconds in works:
        jobs.add_job(
            _guarded,
            "interval",
            seconds=seconds,
            args=[work, service],
            next_run_time=system_now(),
            max_instances=1,
            coalesce=True,
        )
    jobs.start()
    return jobs


def _guarded(work: Callable[[Service], None], service: Service) -> None:
    """Whatever goes wrong in a run, the next one comes."""
    try:
        work(service)
    except StoreDown as error:
        if not service.stopping.is_set():  # a stop does not wait for what is done again at the next start
            log.warning("scheduler.store_down", store=error.store)
    except Exception as error:
        log.error("scheduler.failed", work=work.__name__, exc_info=error)


def _run_due(service: Service) -> None:
    done = service.runs.scheduled(system_now())
    if done.invoices or done.activated or done.terminated:
        log.info("scheduler.ran", invoices=done.invoices, activated=done.activated, terminated=done.terminated)


def _keep_wallets(service: Service) -> None:
    service.wallets.run(LIVE, system_now())


def _check_events(service: Service) -> None:
    found = service.event_checks.run_live(system_now())
    if found:
        log.info("scheduler.event_errors", organizations=found)


def _watch_usage(service: Service) -> None:
    organizations = service.usage_watch.run()
    if organizations:
        log.info("scheduler.usage_watch", organizations=organizations)


def _bill_in_advance(service: Service) -> None:
    fees = service.advance.sweep()
    if fees:
        log.info("scheduler.advance", fees=fees)
