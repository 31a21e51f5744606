"""What handlers are given, by the name of their parameter; `app.server` says where it comes from."""

from datetime import datetime

from litestar.di import NamedDependency
from sqlalchemy.orm import Session

from app.api.access import Caller
from app.api.wire import Page
from app.models import Organization
from app.service import Service

Db = NamedDependency[Session]
"""`db`: a session in the request's transaction; nobody but its provider commits."""
Org = NamedDependency[Organization]
"""`organization`: the caller's organization."""
Now = NamedDependency[datetime]
"""`now`: the time in the caller's organization."""
Paging = NamedDependency[Page]
"""`paging`: the part of a list that is wanted."""
Running = NamedDependency[Service]
"""`service`: the running service."""
Called = NamedDependency[Caller]
"""`caller`: who is asking."""
