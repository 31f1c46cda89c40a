#ifndef UMBRA_SOCKETS_H
#define UMBRA_SOCKETS_H

#include <node_api.h>
#include <stdbool.h>

bool sockets_register(napi_env env, napi_value exports);

#endif
