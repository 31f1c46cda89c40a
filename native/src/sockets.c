// A socket pair, and one descriptor over it: how fusermount3 hands over the mount's device.
#include "sockets.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"

static napi_value call_socket_pair(napi_env env, napi_callback_info info) {
  (void)info;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return number_result(env, -errno);
  napi_value result;
  require_ok(napi_create_array_with_length(env, 2, &result), "socketPair");
  for (uint32_t i = 0; i < 2; i++)
    require_ok(napi_set_element(env, result, i, number_result(env, ends[i])), "socketPair");
  return result;
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int wait_readable(int socket, int timeout_ms) {
  int64_t deadline = now_ms() + timeout_ms;
  for (;;) {
    int64_t left = deadline - now_ms();
    struct pollfd entry = {.fd = socket, .events = POLLIN};
    int ready = poll(&entry, 1, left > 0 ? (int)left : 0);
    if (ready > 0) return 0;
    if (ready == 0) return -ETIMEDOUT;
    if (errno != EINTR) return -errno;
  }
}

static int receive_descriptor(int socket) {
  char byte;
  struct iovec vector = {&byte, 1};
  // Room for one descriptor only: the kernel closes any more of them.
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  ssize_t n;
  do {
    n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  if (n == 0) return -ECONNRESET;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int)))
    return -EBADMSG;
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

static napi_value call_receive_descriptor(napi_env env, napi_callback_info info) {
  arguments_t args;
  int socket;
  int timeout_ms;
  if (!arguments_get(env, info, 2, &args) || !argument_int(&args, 0, &socket) ||
      !argument_int(&args, 1, &timeout_ms) || timeout_ms < 0)
    return number_result(env, -EINVAL);
  int waited = wait_readable(socket, timeout_ms);
  return number_result(env, waited < 0 ? waited : receive_descriptor(socket));
}

bool sockets_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "socketPair", call_socket_pair) &&
         set_method(env, exports, "receiveDescriptor", call_receive_descriptor);
}
