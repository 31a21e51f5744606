"""Route decorators of this API: every success is 200, and handlers are plain functions run in a thread."""

from functools import partial

import litestar

get = partial(litestar.get, sync_to_thread=True)
post = partial(litestar.post, status_code=200, sync_to_thread=True)
patch = partial(litestar.patch, status_code=200, sync_to_thread=True)
put = partial(litestar.put, status_code=200, sync_to_thread=True)
delete = partial(litestar.delete, status_code=200, sync_to_thread=True)
