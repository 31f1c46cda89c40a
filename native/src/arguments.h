// Reading JavaScript arguments and returning numbers, with every Node-API status checked.
//
// Always true: a wrong argument makes the call return -EINVAL to JavaScript and touches nothing;
// a range of bytes is checked against its buffer before it is used.
#ifndef UMBRA_ARGUMENTS_H
#define UMBRA_ARGUMENTS_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UMBRA_MAX_ARGUMENTS 9

typedef struct {
  napi_env env;
  napi_value self;
  size_t count;
  napi_value values[UMBRA_MAX_ARGUMENTS];
} arguments_t;

typedef struct {
  uint8_t *data;
  size_t length;
} byte_range_t;

// Fetches the call's arguments; false unless there are at least `wanted`.
bool arguments_get(napi_env env, napi_callback_info info, size_t wanted, arguments_t *out);
bool argument_int(const arguments_t *args, size_t index, int *out);
bool argument_uint32(const arguments_t *args, size_t index, uint32_t *out);
bool argument_bool(const arguments_t *args, size_t index, bool *out);
// An integer from 0 to 2^53.
bool argument_offset(const arguments_t *args, size_t index, int64_t *out);
bool argument_function(const arguments_t *args, size_t index, napi_value *out);
// Three arguments from `index` on: a Uint8Array, an offset in it and a length, checked.
bool argument_bytes(const arguments_t *args, size_t index, byte_range_t *out);
// A string without NUL as malloc'd UTF-8, to be freed by the caller; NULL when it is none.
char *argument_string(const arguments_t *args, size_t index);

napi_value number_result(napi_env env, int64_t value);
napi_value undefined_result(napi_env env);

// For statuses that can only fail by a bug or a dying process: says where, and aborts.
void require_ok(napi_status status, const char *where);
bool set_method(napi_env env, napi_value target, const char *name, napi_callback callback);

#endif
