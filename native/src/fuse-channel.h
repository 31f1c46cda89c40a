// Receiving requests from /dev/fuse on the event loop, and writing replies.
#ifndef UMBRA_FUSE_CHANNEL_H
#define UMBRA_FUSE_CHANNEL_H

#include <node_api.h>
#include <stdbool.h>

#include "addon.h"

bool fuse_channel_register(napi_env env, napi_value exports);
// The environment ends: every channel closes its descriptor.
void fuse_channel_close_all(addon_state_t *state);

#endif
