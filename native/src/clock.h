#ifndef UMBRA_CLOCK_H
#define UMBRA_CLOCK_H

#include <node_api.h>
#include <stdbool.h>

bool clock_register(napi_env env, napi_value exports);

#endif
