// The module: one state for each environment, its end, and the table of exported functions.
#include "addon.h"

#include <stdlib.h>

#include "arguments.h"
#include "attributes.h"
#include "block-io.h"
#include "clock.h"
#include "crc32c.h"
#include "fuse-channel.h"
#include "later.h"
#include "mount.h"
#include "sockets.h"

addon_state_t *addon_state_of(napi_env env) {
  void *data = NULL;
  require_ok(napi_get_instance_data(env, &data), "addon_state_of");
  return data;
}

void addon_call(addon_state_t *state, napi_ref function, int64_t argument) {
  napi_env env = state->env;
  if (state->closing) return;
  napi_value callee;
  napi_value receiver;
  napi_value arguments[1] = {number_result(env, argument)};
  require_ok(napi_get_reference_value(env, function, &callee), "addon_call");
  require_ok(napi_get_global(env, &receiver), "addon_call");
  napi_status status = napi_make_callback(env, NULL, receiver, callee, 1, arguments, NULL);
  if (status == napi_ok) return;

  // While the process is exiting a call is refused with no exception to show for it.
  bool thrown = false;
  require_ok(napi_is_exception_pending(env, &thrown), "addon_call");
  if (!thrown) return;
  napi_value exception;
  require_ok(napi_get_and_clear_last_exception(env, &exception), "addon_call");
  napi_fatal_exception(env, exception);
}

void addon_finish_if_idle(addon_state_t *state) {
  if (!state->closing || state->unfinished > 0 || state->cleanup == NULL) return;
  napi_async_cleanup_hook_handle cleanup = state->cleanup;
  state->cleanup = NULL;
  later_free_idle(state);
  // May free the state.
  require_ok(napi_remove_async_cleanup_hook(cleanup), "addon_finish_if_idle");
}

static void on_environment_end(napi_async_cleanup_hook_handle handle, void *data) {
  (void)handle;
  addon_state_t *state = data;
  state->closing = true;
  later_cancel_all(state);
  fuse_channel_close_all(state);
  addon_finish_if_idle(state);
}

static void free_state(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

static bool set_up_state(napi_env env) {
  addon_state_t *state = calloc(1, sizeof *state);
  if (state == NULL) return false;
  state->env = env;
  atomic_init(&state->undelivered, 0);
  if (napi_get_uv_event_loop(env, &state->loop) != napi_ok ||
      napi_set_instance_data(env, state, free_state, NULL) != napi_ok) {
    free(state);
    return false;
  }
  return napi_add_async_cleanup_hook(env, on_environment_end, state, &state->cleanup) == napi_ok;
}

NAPI_MODULE_INIT() {
  crc32c_set_up();
  bool ok = set_up_state(env) && crc32c_register(env, exports) && block_io_register(env, exports) &&
            attributes_register(env, exports) && clock_register(env, exports) &&
            later_register(env, exports) && mount_register(env, exports) && sockets_register(env, exports) &&
            fuse_channel_register(env, exports);
  if (!ok) napi_throw_error(env, NULL, "Cannot set up the native addon");
  return exports;
}
