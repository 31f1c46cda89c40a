// Mounting, unmounting and flushing file systems, and the process's standing towards reclaim.
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "arguments.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

static napi_value call_open_fuse_device(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  return number_result(env, fd >= 0 ? fd : -errno);
}

static napi_value call_mount(napi_env env, napi_callback_info info) {
  arguments_t args;
  uint32_t flags;
  if (!arguments_get(env, info, 5, &args) || !argument_uint32(&args, 3, &flags))
    return number_result(env, -EINVAL);
  char *source = argument_string(&args, 0);
  char *target = argument_string(&args, 1);
  char *type = argument_string(&args, 2);
  char *data = argument_string(&args, 4);
  int result = -EINVAL;
  if (source != NULL && target != NULL && type != NULL && data != NULL)
    result = mount(source, target, type, flags, data) == 0 ? 0 : -errno;
  free(source);
  free(target);
  free(type);
  free(data);
  return number_result(env, result);
}

static napi_value call_umount(napi_env env, napi_callback_info info) {
  arguments_t args;
  int flags;
  if (!arguments_get(env, info, 2, &args) || !argument_int(&args, 1, &flags))
    return number_result(env, -EINVAL);
  char *target = argument_string(&args, 0);
  if (target == NULL) return number_result(env, -EINVAL);
  int result = umount2(target, flags) == 0 ? 0 : -errno;
  free(target);
  return number_result(env, result);
}

static napi_value call_syncfs(napi_env env, napi_callback_info info) {
  arguments_t args;
  if (!arguments_get(env, info, 1, &args)) return number_result(env, -EINVAL);
  char *path = argument_string(&args, 0);
  if (path == NULL) return number_result(env, -EINVAL);
  // O_NONBLOCK: a pipe or device at the path must not be waited for.
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  int result = fd < 0 ? -errno : 0;
  free(path);
  if (fd < 0) return number_result(env, result);
  if (syncfs(fd) != 0) result = -errno;
  close(fd);
  return number_result(env, result);
}

static napi_value call_set_io_flusher(napi_env env, napi_callback_info info) {
  (void)info;
  return number_result(env, prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0 ? 0 : -errno);
}

bool mount_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "openFuseDevice", call_open_fuse_device) &&
         set_method(env, exports, "mount", call_mount) && set_method(env, exports, "umount", call_umount) &&
         set_method(env, exports, "syncfs", call_syncfs) &&
         set_method(env, exports, "setIoFlusher", call_set_io_flusher);
}
