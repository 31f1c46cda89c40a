#include "arguments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SAFE_INTEGER 9007199254740991.0
#define MAX_STRING_BYTES 65536

bool arguments_get(napi_env env, napi_callback_info info, size_t wanted, arguments_t *out) {
  out->env = env;
  out->count = UMBRA_MAX_ARGUMENTS;
  napi_status status = napi_get_cb_info(env, info, &out->count, out->values, &out->self, NULL);
  return status == napi_ok && out->count >= wanted;
}

bool argument_int(const arguments_t *args, size_t index, int *out) {
  int32_t value;
  if (napi_get_value_int32(args->env, args->values[index], &value) != napi_ok) return false;
  *out = value;
  return true;
}

bool argument_uint32(const arguments_t *args, size_t index, uint32_t *out) {
  return napi_get_value_uint32(args->env, args->values[index], out) == napi_ok;
}

bool argument_bool(const arguments_t *args, size_t index, bool *out) {
  return napi_get_value_bool(args->env, args->values[index], out) == napi_ok;
}

bool argument_offset(const arguments_t *args, size_t index, int64_t *out) {
  double value;
  if (napi_get_value_double(args->env, args->values[index], &value) != napi_ok) return false;
  // The comparison is false for NaN, too.
  if (!(value >= 0 && value <= MAX_SAFE_INTEGER)) return false;
  *out = (int64_t)value;
  return (double)*out == value;
}

bool argument_function(const arguments_t *args, size_t index, napi_value *out) {
  napi_valuetype type;
  if (napi_typeof(args->env, args->values[index], &type) != napi_ok) return false;
  *out = args->values[index];
  return type == napi_function;
}

bool argument_bytes(const arguments_t *args, size_t index, byte_range_t *out) {
  napi_typedarray_type type;
  size_t available;
  void *data;
  napi_status status = napi_get_typedarray_info(args->env, args->values[index], &type, &available,
                                                &data, NULL, NULL);
  if (status != napi_ok || type != napi_uint8_array) return false;
  int64_t offset;
  int64_t length;
  if (!argument_offset(args, index + 1, &offset)) return false;
  if (!argument_offset(args, index + 2, &length)) return false;
  if ((uint64_t)offset > available || (uint64_t)length > available - (uint64_t)offset) return false;
  out->data = (uint8_t *)data + offset;
  out->length = (size_t)length;
  return true;
}

char *argument_string(const arguments_t *args, size_t index) {
  size_t length;
  if (napi_get_value_string_utf8(args->env, args->values[index], NULL, 0, &length) != napi_ok) return NULL;
  if (length > MAX_STRING_BYTES) return NULL;
  char *text = malloc(length + 1);
  if (text == NULL) return NULL;
  napi_status status = napi_get_value_string_utf8(args->env, args->values[index], text, length + 1, &length);
  if (status == napi_ok && strlen(text) == length) return text;
  free(text);
  return NULL;
}

napi_value number_result(napi_env env, int64_t value) {
  napi_value result;
  napi_status status = value >= INT32_MIN && value <= INT32_MAX
                           ? napi_create_int32(env, (int32_t)value, &result)
                           : napi_create_int64(env, value, &result);
  require_ok(status, "number_result");
  return result;
}

napi_value undefined_result(napi_env env) {
  napi_value result;
  require_ok(napi_get_undefined(env, &result), "undefined_result");
  return result;
}

void require_ok(napi_status status, const char *where) {
  if (status != napi_ok) napi_fatal_error(where, NAPI_AUTO_LENGTH, "a Node-API call failed", NAPI_AUTO_LENGTH);
}

bool set_method(napi_env env, napi_value target, const char *name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function) != napi_ok) return false;
  return napi_set_named_property(env, target, name, function) == napi_ok;
}
