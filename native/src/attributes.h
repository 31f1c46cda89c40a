#ifndef UMBRA_ATTRIBUTES_H
#define UMBRA_ATTRIBUTES_H

#include <node_api.h>
#include <stdbool.h>

bool attributes_register(napi_env env, napi_value exports);

#endif
