// Calls that run on libuv's threads and answer through a callback on the event loop.
#ifndef UMBRA_LATER_H
#define UMBRA_LATER_H

#include <node_api.h>
#include <stdbool.h>

#include "addon.h"

bool later_register(napi_env env, napi_value exports);
// The environment ends: forgets what has not started; what runs is waited for.
void later_cancel_all(addon_state_t *state);
void later_free_idle(addon_state_t *state);

#endif
