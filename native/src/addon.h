// What one environment (the main thread or a worker) owns: its loop, its unfinished calls and its
// FUSE channels. Nothing here is shared between environments.
#ifndef UMBRA_ADDON_H
#define UMBRA_ADDON_H

#include <node_api.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct later;
struct fuse_channel;

typedef struct addon_state {
  napi_env env;
  uv_loop_t *loop;
  napi_async_cleanup_hook_handle cleanup;
  // The environment is ending: nothing calls into JavaScript from here on.
  bool closing;
  // Calls on threads and closing handles that the environment's end waits for.
  uint32_t unfinished;
  // Calls whose work is done but whose callback has not run: a spinning channel lets them go first.
  atomic_uint undelivered;
  struct later *idle_calls;
  uint32_t idle_call_count;
  struct later *running_calls;
  struct fuse_channel *channels;
} addon_state_t;

addon_state_t *addon_state_of(napi_env env);
// Called whenever `unfinished` has gone down, to let a waiting environment end.
void addon_finish_if_idle(addon_state_t *state);
// Calls a JavaScript function from the event loop: next ticks and microtasks run after it; what it
// throws becomes an uncaught exception.
void addon_call(addon_state_t *state, napi_ref function, int64_t argument);

#endif
