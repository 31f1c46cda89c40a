// Calls on threads: pread, fdatasync, fallocate, umount.
//
// Always true: the buffer and the callback are referenced from the call until the callback; the
// thread touches nothing of Node-API; a finished call's record is kept for the next one.
#include "later.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "arguments.h"
#include "block-io.h"

#define MAX_IDLE_CALLS 256

typedef enum { LATER_PREAD, LATER_FDATASYNC, LATER_FALLOCATE, LATER_UMOUNT } later_kind;

typedef struct later {
  uv_work_t work;
  addon_state_t *state;
  struct later *previous;
  struct later *next;
  later_kind kind;
  int fd;
  int mode;
  byte_range_t range;
  int64_t offset;
  int64_t length;
  int64_t result;
  // Owned by the call; LATER_UMOUNT alone has one.
  char *path;
  napi_ref done;
  napi_ref buffer;
} later_t;

static void run(uv_work_t *work) {
  later_t *call = work->data;
  int status;
  switch (call->kind) {
    case LATER_PREAD:
      call->result = read_fully(call->fd, call->range.data, call->range.length, call->offset);
      break;
    case LATER_FDATASYNC:
      // Never retried, not even after EINTR: what a failed flush lost stays lost.
      call->result = fdatasync(call->fd) == 0 ? 0 : -errno;
      break;
    case LATER_FALLOCATE:
      do {
        status = fallocate(call->fd, call->mode, call->offset, call->length);
      } while (status < 0 && errno == EINTR);
      call->result = status == 0 ? 0 : -errno;
      break;
    case LATER_UMOUNT:
      call->result = umount2(call->path, call->mode) == 0 ? 0 : -errno;
      break;
  }
  atomic_fetch_add_explicit(&call->state->undelivered, 1, memory_order_release);
}

static later_t *take_call(addon_state_t *state) {
  later_t *call = state->idle_calls;
  if (call != NULL) {
    state->idle_calls = call->next;
    state->idle_call_count--;
  } else {
    call = malloc(sizeof *call);
    if (call == NULL) return NULL;
  }
  *call = (later_t){.state = state, .next = state->running_calls};
  call->work.data = call;
  if (call->next != NULL) call->next->previous = call;
  state->running_calls = call;
  return call;
}

static void release_call(later_t *call) {
  addon_state_t *state = call->state;
  if (call->previous != NULL)
    call->previous->next = call->next;
  else
    state->running_calls = call->next;
  if (call->next != NULL) call->next->previous = call->previous;
  if (state->idle_call_count >= MAX_IDLE_CALLS) {
    free(call);
    return;
  }
  call->next = state->idle_calls;
  state->idle_calls = call;
  state->idle_call_count++;
}

static void drop_references(later_t *call) {
  napi_env env = call->state->env;
  free(call->path);
  if (call->done != NULL) require_ok(napi_delete_reference(env, call->done), "later");
  if (call->buffer != NULL) require_ok(napi_delete_reference(env, call->buffer), "later");
}

static void finish(uv_work_t *work, int status) {
  later_t *call = work->data;
  addon_state_t *state = call->state;
  napi_handle_scope scope;
  require_ok(napi_open_handle_scope(state->env, &scope), "later");
  // A cancelled call never ran.
  if (status == 0) atomic_fetch_sub_explicit(&state->undelivered, 1, memory_order_relaxed);
  addon_call(state, call->done, status == 0 ? call->result : status);
  drop_references(call);
  release_call(call);
  require_ok(napi_close_handle_scope(state->env, scope), "later");
  state->unfinished--;
  addon_finish_if_idle(state);
}

// Queues a call and takes its path over; `buffer` may be NULL. A call that cannot be queued throws.
static napi_value start(napi_env env, const later_t *wanted, napi_value buffer, napi_value done) {
  addon_state_t *state = addon_state_of(env);
  later_t *call = state->closing ? NULL : take_call(state);
  if (call == NULL) {
    free(wanted->path);
    napi_throw_error(env, "ENOMEM", "Cannot start a call on a thread");
    return NULL;
  }
  call->kind = wanted->kind;
  call->fd = wanted->fd;
  call->mode = wanted->mode;
  call->range = wanted->range;
  call->offset = wanted->offset;
  call->length = wanted->length;
  call->path = wanted->path;
  bool ok = napi_create_reference(env, done, 1, &call->done) == napi_ok;
  if (ok && buffer != NULL) ok = napi_create_reference(env, buffer, 1, &call->buffer) == napi_ok;
  if (!ok || uv_queue_work(state->loop, &call->work, run, finish) != 0) {
    drop_references(call);
    release_call(call);
    napi_throw_error(env, "ENOMEM", "Cannot start a call on a thread");
    return NULL;
  }
  state->unfinished++;
  return undefined_result(env);
}

static napi_value refuse(napi_env env) {
  napi_throw_type_error(env, "EINVAL", "Wrong arguments for a native call");
  return NULL;
}

static napi_value call_pread_later(napi_env env, napi_callback_info info) {
  arguments_t args;
  napi_value done;
  later_t call = {.kind = LATER_PREAD};
  if (!arguments_get(env, info, 6, &args) || !argument_int(&args, 0, &call.fd) ||
      !argument_bytes(&args, 1, &call.range) || !argument_offset(&args, 4, &call.offset) ||
      !argument_function(&args, 5, &done))
    return refuse(env);
  return start(env, &call, args.values[1], done);
}

static napi_value call_fdatasync_later(napi_env env, napi_callback_info info) {
  arguments_t args;
  napi_value done;
  later_t call = {.kind = LATER_FDATASYNC};
  if (!arguments_get(env, info, 2, &args) || !argument_int(&args, 0, &call.fd) ||
      !argument_function(&args, 1, &done))
    return refuse(env);
  return start(env, &call, NULL, done);
}

static napi_value call_fallocate_later(napi_env env, napi_callback_info info) {
  arguments_t args;
  napi_value done;
  later_t call = {.kind = LATER_FALLOCATE};
  if (!arguments_get(env, info, 5, &args) || !argument_int(&args, 0, &call.fd) ||
      !argument_int(&args, 1, &call.mode) || !argument_offset(&args, 2, &call.offset) ||
      !argument_offset(&args, 3, &call.length) || !argument_function(&args, 4, &done))
    return refuse(env);
  return start(env, &call, NULL, done);
}

static napi_value call_umount_later(napi_env env, napi_callback_info info) {
  arguments_t args;
  napi_value done;
  later_t call = {.kind = LATER_UMOUNT};
  if (!arguments_get(env, info, 3, &args) || !argument_int(&args, 1, &call.mode) ||
      !argument_function(&args, 2, &done))
    return refuse(env);
  call.path = argument_string(&args, 0);
  return call.path == NULL ? refuse(env) : start(env, &call, NULL, done);
}

void later_cancel_all(addon_state_t *state) {
  // Cancelled calls, too, end in finish(); those that already run refuse to be cancelled.
  for (later_t *call = state->running_calls; call != NULL; call = call->next)
    (void)uv_cancel((uv_req_t *)&call->work);
}

void later_free_idle(addon_state_t *state) {
  while (state->idle_calls != NULL) {
    later_t *call = state->idle_calls;
    state->idle_calls = call->next;
    free(call);
  }
  state->idle_call_count = 0;
}

bool later_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "preadLater", call_pread_later) &&
         set_method(env, exports, "fdatasyncLater", call_fdatasync_later) &&
         set_method(env, exports, "fallocateLater", call_fallocate_later) &&
         set_method(env, exports, "umountLater", call_umount_later);
}
