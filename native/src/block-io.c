// Positioned reads and writes on a plain descriptor, space and locks; all in the calling thread.
//
// Always true: a read or write is complete, ended by the end of the file, or an error; EINTR and
// short counts never reach the caller.
#include "block-io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "arguments.h"

#define PAGE_BYTES 4096u
#define MAX_ALIGNED_BYTES (1u << 30)

int64_t read_fully(int fd, uint8_t *target, size_t length, int64_t offset) {
  size_t done = 0;
  while (done < length) {
    ssize_t n = pread(fd, target + done, length - done, offset + (int64_t)done);
    if (n == 0) break;
    if (n > 0)
      done += (size_t)n;
    else if (errno != EINTR)
      return -errno;
  }
  return (int64_t)done;
}

static int64_t write_fully(int fd, const uint8_t *source, size_t length, int64_t offset) {
  size_t done = 0;
  while (done < length) {
    ssize_t n = pwrite(fd, source + done, length - done, offset + (int64_t)done);
    if (n > 0)
      done += (size_t)n;
    else if (n == 0)
      return -EIO;
    else if (errno != EINTR)
      return -errno;
  }
  return (int64_t)done;
}

static int64_t read_cached(int fd, uint8_t *target, size_t length, int64_t offset) {
  size_t done = 0;
  while (done < length) {
    struct iovec vector = {target + done, length - done};
    ssize_t n = preadv2(fd, &vector, 1, offset + (int64_t)done, RWF_NOWAIT);
    if (n == 0) break;
    if (n > 0) {
      done += (size_t)n;
      continue;
    }
    if (errno == EINTR) continue;
    // File systems that cannot tell (overlayfs, older kernels): waiting is all there is.
    if (errno == EOPNOTSUPP || errno == ENOSYS) return read_fully(fd, target, length, offset);
    return -errno;
  }
  return (int64_t)done;
}

typedef struct {
  int fd;
  byte_range_t range;
  int64_t offset;
} transfer_t;

static bool get_transfer(napi_env env, napi_callback_info info, transfer_t *out) {
  arguments_t args;
  return arguments_get(env, info, 5, &args) && argument_int(&args, 0, &out->fd) &&
         argument_bytes(&args, 1, &out->range) && argument_offset(&args, 4, &out->offset);
}

static napi_value call_pread(napi_env env, napi_callback_info info) {
  transfer_t it;
  if (!get_transfer(env, info, &it)) return number_result(env, -EINVAL);
  return number_result(env, read_fully(it.fd, it.range.data, it.range.length, it.offset));
}

static napi_value call_pread_no_wait(napi_env env, napi_callback_info info) {
  transfer_t it;
  if (!get_transfer(env, info, &it)) return number_result(env, -EINVAL);
  return number_result(env, read_cached(it.fd, it.range.data, it.range.length, it.offset));
}

static napi_value call_pwrite(napi_env env, napi_callback_info info) {
  transfer_t it;
  if (!get_transfer(env, info, &it)) return number_result(env, -EINVAL);
  return number_result(env, write_fully(it.fd, it.range.data, it.range.length, it.offset));
}

static napi_value call_fdatasync(napi_env env, napi_callback_info info) {
  arguments_t args;
  int fd;
  if (!arguments_get(env, info, 1, &args) || !argument_int(&args, 0, &fd)) return number_result(env, -EINVAL);
  // Never retried, not even after EINTR: what a failed flush lost stays lost.
  return number_result(env, fdatasync(fd) == 0 ? 0 : -errno);
}

static napi_value call_fallocate(napi_env env, napi_callback_info info) {
  arguments_t args;
  int fd;
  int mode;
  int64_t offset;
  int64_t length;
  if (!arguments_get(env, info, 4, &args) || !argument_int(&args, 0, &fd) || !argument_int(&args, 1, &mode) ||
      !argument_offset(&args, 2, &offset) || !argument_offset(&args, 3, &length))
    return number_result(env, -EINVAL);
  int result;
  do {
    result = fallocate(fd, mode, offset, length);
  } while (result < 0 && errno == EINTR);
  return number_result(env, result == 0 ? 0 : -errno);
}

static napi_value call_lseek(napi_env env, napi_callback_info info) {
  arguments_t args;
  int fd;
  int64_t offset;
  int whence;
  if (!arguments_get(env, info, 3, &args) || !argument_int(&args, 0, &fd) ||
      !argument_offset(&args, 1, &offset) || !argument_int(&args, 2, &whence))
    return number_result(env, -EINVAL);
  off_t result = lseek(fd, offset, whence);
  return number_result(env, result < 0 ? -errno : result);
}

// Locks belong to the open file description: they end with its last descriptor, and closing another
// descriptor of the same file does not drop them. A file's own lock is on the bytes below this place,
// marks are locks of single bytes from it on; no file is as large.
#define MARKS_OFFSET ((off_t)1 << 62)

static int set_range(int fd, short type, off_t start, off_t length) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length, .l_pid = 0};
  int result;
  do {
    result = fcntl(fd, F_OFD_SETLK, &lock);
  } while (result < 0 && errno == EINTR);
  if (result == 0) return 0;
  return errno == EACCES ? -EAGAIN : -errno;
}

static int set_lock(int fd, short type) {
  return set_range(fd, type, 0, MARKS_OFFSET);
}

static napi_value call_lock(napi_env env, napi_callback_info info) {
  arguments_t args;
  int fd;
  bool exclusive;
  if (!arguments_get(env, info, 2, &args) || !argument_int(&args, 0, &fd) ||
      !argument_bool(&args, 1, &exclusive))
    return number_result(env, -EINVAL);
  return number_result(env, set_lock(fd, exclusive ? F_WRLCK : F_RDLCK));
}

static napi_value call_unlock(napi_env env, napi_callback_info info) {
  arguments_t args;
  int fd;
  if (!arguments_get(env, info, 1, &args) || !argument_int(&args, 0, &fd)) return number_result(env, -EINVAL);
  return number_result(env, set_lock(fd, F_UNLCK));
}

static bool mark_arguments(napi_env env, napi_callback_info info, int *fd, int64_t *mark) {
  arguments_t args;
  return arguments_get(env, info, 2, &args) && argument_int(&args, 0, fd) && argument_offset(&args, 1, mark);
}

static napi_value call_set_mark(napi_env env, napi_callback_info info) {
  int fd;
  int64_t mark;
  if (!mark_arguments(env, info, &fd, &mark)) return number_result(env, -EINVAL);
  return number_result(env, set_range(fd, F_RDLCK, MARKS_OFFSET + mark, 1));
}

static napi_value call_clear_mark(napi_env env, napi_callback_info info) {
  int fd;
  int64_t mark;
  if (!mark_arguments(env, info, &fd, &mark)) return number_result(env, -EINVAL);
  return number_result(env, set_range(fd, F_UNLCK, MARKS_OFFSET + mark, 1));
}

// Whether anybody else holds it: a lock for writing would be in its way.
static napi_value call_has_mark(napi_env env, napi_callback_info info) {
  int fd;
  int64_t mark;
  if (!mark_arguments(env, info, &fd, &mark)) return number_result(env, -EINVAL);
  struct flock lock = {
      .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = MARKS_OFFSET + mark, .l_len = 1, .l_pid = 0};
  int result;
  do {
    result = fcntl(fd, F_OFD_GETLK, &lock);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return number_result(env, -errno);
  return number_result(env, lock.l_type == F_UNLCK ? 0 : 1);
}

// A Uint8Array of so many bytes that begins on a page boundary, as O_DIRECT wants it.
static napi_value call_aligned_bytes(napi_env env, napi_callback_info info) {
  arguments_t args;
  uint32_t length;
  if (!arguments_get(env, info, 1, &args) || !argument_uint32(&args, 0, &length) || length > MAX_ALIGNED_BYTES)
    return number_result(env, -EINVAL);
  void *data;
  napi_value buffer;
  napi_value result;
  if (napi_create_arraybuffer(env, length + PAGE_BYTES, &data, &buffer) != napi_ok) return number_result(env, -ENOMEM);
  size_t skip = (PAGE_BYTES - (uintptr_t)data % PAGE_BYTES) % PAGE_BYTES;
  if (napi_create_typedarray(env, napi_uint8_array, length, buffer, skip, &result) != napi_ok)
    return number_result(env, -ENOMEM);
  return result;
}

bool block_io_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "pread", call_pread) &&
         set_method(env, exports, "preadNoWait", call_pread_no_wait) &&
         set_method(env, exports, "pwrite", call_pwrite) &&
         set_method(env, exports, "fdatasync", call_fdatasync) &&
         set_method(env, exports, "fallocate", call_fallocate) &&
         set_method(env, exports, "lseek", call_lseek) && set_method(env, exports, "lock", call_lock) &&
         set_method(env, exports, "unlock", call_unlock) &&
         set_method(env, exports, "setMark", call_set_mark) &&
         set_method(env, exports, "clearMark", call_clear_mark) &&
         set_method(env, exports, "hasMark", call_has_mark) &&
         set_method(env, exports, "alignedBytes", call_aligned_bytes);
}
