// Attributes of the host's files that Node.js has no call for: times to the nanosecond, extended
// attributes, special files. Links are followed: a path is one in /proc/self/fd where that matters.
//
// Always true: a path or name is bytes that end in their only NUL, so any name will do.
#include "attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "arguments.h"

// Three arguments from `index` on: bytes with one NUL, at their end.
static const char *argument_path(const arguments_t *args, size_t index) {
  byte_range_t range;
  if (!argument_bytes(args, index, &range) || range.length == 0) return NULL;
  const void *end = memchr(range.data, 0, range.length);
  return end == range.data + range.length - 1 ? (const char *)range.data : NULL;
}

// Times as four int64: seconds and nanoseconds of access, then of modification.
static napi_value call_set_times(napi_env env, napi_callback_info info) {
  arguments_t args;
  byte_range_t given;
  const char *path;
  int64_t numbers[4];
  if (!arguments_get(env, info, 6, &args) || (path = argument_path(&args, 0)) == NULL ||
      !argument_bytes(&args, 3, &given) || given.length != sizeof numbers)
    return number_result(env, -EINVAL);
  memcpy(numbers, given.data, sizeof numbers);
  struct timespec times[2] = {{.tv_sec = (time_t)numbers[0], .tv_nsec = (long)numbers[1]},
                              {.tv_sec = (time_t)numbers[2], .tv_nsec = (long)numbers[3]}};
  return number_result(env, utimensat(AT_FDCWD, path, times, 0) == 0 ? 0 : -errno);
}

static napi_value call_list_xattrs(napi_env env, napi_callback_info info) {
  arguments_t args;
  byte_range_t target;
  const char *path;
  if (!arguments_get(env, info, 6, &args) || (path = argument_path(&args, 0)) == NULL ||
      !argument_bytes(&args, 3, &target))
    return number_result(env, -EINVAL);
  ssize_t size = listxattr(path, (char *)target.data, target.length);
  return number_result(env, size < 0 ? -errno : size);
}

static napi_value call_get_xattr(napi_env env, napi_callback_info info) {
  arguments_t args;
  byte_range_t target;
  const char *path;
  const char *name;
  if (!arguments_get(env, info, 9, &args) || (path = argument_path(&args, 0)) == NULL ||
      (name = argument_path(&args, 3)) == NULL || !argument_bytes(&args, 6, &target))
    return number_result(env, -EINVAL);
  ssize_t size = getxattr(path, name, target.data, target.length);
  return number_result(env, size < 0 ? -errno : size);
}

static napi_value call_set_xattr(napi_env env, napi_callback_info info) {
  arguments_t args;
  byte_range_t value;
  const char *path;
  const char *name;
  if (!arguments_get(env, info, 9, &args) || (path = argument_path(&args, 0)) == NULL ||
      (name = argument_path(&args, 3)) == NULL || !argument_bytes(&args, 6, &value))
    return number_result(env, -EINVAL);
  return number_result(env, setxattr(path, name, value.data, value.length, 0) == 0 ? 0 : -errno);
}

static napi_value call_remove_xattr(napi_env env, napi_callback_info info) {
  arguments_t args;
  const char *path;
  const char *name;
  if (!arguments_get(env, info, 6, &args) || (path = argument_path(&args, 0)) == NULL ||
      (name = argument_path(&args, 3)) == NULL)
    return number_result(env, -EINVAL);
  return number_result(env, removexattr(path, name) == 0 ? 0 : -errno);
}

static napi_value call_make_node(napi_env env, napi_callback_info info) {
  arguments_t args;
  const char *path;
  uint32_t mode;
  uint32_t major_number;
  uint32_t minor_number;
  if (!arguments_get(env, info, 6, &args) || (path = argument_path(&args, 0)) == NULL ||
      !argument_uint32(&args, 3, &mode) || !argument_uint32(&args, 4, &major_number) ||
      !argument_uint32(&args, 5, &minor_number))
    return number_result(env, -EINVAL);
  dev_t device = makedev(major_number, minor_number);
  return number_result(env, mknod(path, (mode_t)mode, device) == 0 ? 0 : -errno);
}

bool attributes_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "setTimes", call_set_times) &&
         set_method(env, exports, "listXattrs", call_list_xattrs) &&
         set_method(env, exports, "getXattr", call_get_xattr) &&
         set_method(env, exports, "setXattr", call_set_xattr) &&
         set_method(env, exports, "removeXattr", call_remove_xattr) &&
         set_method(env, exports, "makeNode", call_make_node);
}
