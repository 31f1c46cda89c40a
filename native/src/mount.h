#ifndef UMBRA_MOUNT_H
#define UMBRA_MOUNT_H

#include <node_api.h>
#include <stdbool.h>

bool mount_register(napi_env env, napi_value exports);

#endif
