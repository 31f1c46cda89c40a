// A FUSE device on the event loop: requests come in batches into the slots of one arena, replies
// leave by one write(2) each.
//
// Always true:
// - Requests are read in the thread that serves them; the descriptor never blocks.
// - Between two batches the thread may spin, yielding the processor, because waking an idle one
//   costs several times what a request does. It spins only after a request or a late reply, gives
//   up when that has stopped paying, lets finished calls from threads go first, and hands the loop
//   back after TURN_CAP_NS whatever happens.
// - The arena, the callback and the handle are referenced until both libuv handles are closed; the
//   structure lives until then and until the handle object is collected, whichever is later.
#include "fuse-channel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"

#define PAGE_BYTES 4096u
// fuse_in_header and fuse_write_in, which precede the payload of a WRITE.
#define WRITE_HEADER_BYTES 80u
#define REQUEST_OFFSET_BYTES (PAGE_BYTES - WRITE_HEADER_BYTES)
// FUSE_MIN_READ_BUFFER: with less room the kernel refuses to hand out requests.
#define MIN_PAYLOAD_BYTES 8192u
#define MAX_PAYLOAD_BYTES (64u << 20)
#define MAX_SLOTS 256u
#define MAX_SPIN_US 10000u
// A request at least this long is delivered at once: while it is still in the processor's cache.
#define LARGE_REQUEST_BYTES 65536
#define TURN_CAP_NS 2000000
// So many spins in vain, and only every SPIN_RETRY_INTERVALth opportunity is still tried.
#define SPIN_MISSES_ALLOWED 16u
#define SPIN_RETRY_INTERVAL 16u
// A yield that took longer gave the processor to others who want it as well: whoever yields goes behind
// them all, while one that sleeps is woken ahead of them. So there is no spinning for a while.
#define CONTENDED_YIELD_NS 500000u
#define CONTENDED_PAUSE_NS 100000000u

typedef struct fuse_channel {
  addon_state_t *state;
  struct fuse_channel *previous;
  struct fuse_channel *next;
  uv_poll_t poll;
  uv_idle_t idle;
  int open_handles;
  bool collected;
  bool open;
  bool paused;
  bool in_turn;
  int fd;
  napi_ref self;
  napi_ref on_batch;
  napi_ref arena;
  napi_ref lengths;
  uint8_t *slots;
  uint32_t *slot_lengths;
  size_t stride;
  size_t request_room;
  uint32_t slot_count;
  uint64_t spin_ns;
  uint64_t spin_until_ns;
  uint32_t spin_misses;
  uint64_t contended_until_ns;
} fuse_channel_t;

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// ---- receiving

static ssize_t receive_into(const fuse_channel_t *channel, uint32_t slot) {
  uint8_t *at = channel->slots + slot * channel->stride + REQUEST_OFFSET_BYTES;
  for (;;) {
    ssize_t n = read(channel->fd, at, channel->request_room);
    if (n >= 0) return n;
    // ENOENT: the request was interrupted while it was handed over; the next one is as good.
    if (errno != EINTR && errno != ENOENT) return -errno;
  }
}

static bool may_spin(const fuse_channel_t *channel, uint64_t deadline_ns) {
  if (atomic_load_explicit(&channel->state->undelivered, memory_order_acquire) > 0) return false;
  return deadline_ns > 0 && now_ns() < deadline_ns;
}

// Fills slots until the device is empty, and waits for the first request up to `deadline_ns`.
// Returns how many; `*failure` is 0, or the negated errno with which the device has ended.
static uint32_t fill_slots(fuse_channel_t *channel, uint64_t deadline_ns, int *failure) {
  uint32_t count = 0;
  *failure = 0;
  while (count < channel->slot_count) {
    ssize_t n = receive_into(channel, count);
    if (n >= 0) {
      channel->slot_lengths[count++] = (uint32_t)n;
      if (n >= LARGE_REQUEST_BYTES) break;
    } else if (n == -EAGAIN) {
      if (count > 0 || !may_spin(channel, deadline_ns)) break;
      uint64_t before = now_ns();
      sched_yield();
      uint64_t after = now_ns();
      if (after - before > CONTENDED_YIELD_NS) channel->contended_until_ns = after + CONTENDED_PAUSE_NS;
    } else {
      *failure = (int)n;
      break;
    }
  }
  return count;
}

static void deliver(fuse_channel_t *channel, int64_t count_or_errno) {
  napi_env env = channel->state->env;
  napi_handle_scope scope;
  require_ok(napi_open_handle_scope(env, &scope), "fuse channel");
  addon_call(channel->state, channel->on_batch, count_or_errno);
  require_ok(napi_close_handle_scope(env, scope), "fuse channel");
}

// Opens a new window for spinning, if spinning pays; false when it does not.
static bool open_spin_window(fuse_channel_t *channel, uint64_t now) {
  channel->spin_until_ns = 0;
  if (channel->spin_ns == 0 || now < channel->contended_until_ns) return false;
  if (channel->spin_misses >= SPIN_MISSES_ALLOWED) {
    channel->spin_misses++;
    if (channel->spin_misses % SPIN_RETRY_INTERVAL != 0) return false;
  }
  channel->spin_until_ns = now + channel->spin_ns;
  return true;
}

static void on_idle(uv_idle_t *handle);

// While the idle handle is active the loop does not sleep, so that spinning goes on next turn.
static void keep_awake(fuse_channel_t *channel, bool awake) {
  if (awake && channel->open && !channel->paused)
    uv_idle_start(&channel->idle, on_idle);
  else
    uv_idle_stop(&channel->idle);
}

static void end_receiving(fuse_channel_t *channel, int failure) {
  uv_poll_stop(&channel->poll);
  uv_idle_stop(&channel->idle);
  channel->paused = true;
  deliver(channel, failure);
}

// One turn: batches until the device is empty and spinning has found nothing, or the cap is reached.
static void take_turn(fuse_channel_t *channel) {
  uint64_t turn_end_ns = now_ns() + TURN_CAP_NS;
  bool spinning = channel->spin_until_ns > 0;
  bool awake = false;
  channel->in_turn = true;
  while (channel->open && !channel->paused) {
    uint64_t deadline_ns = channel->spin_until_ns < turn_end_ns ? channel->spin_until_ns : turn_end_ns;
    int failure;
    uint32_t count = fill_slots(channel, spinning ? deadline_ns : 0, &failure);
    if (count > 0) {
      if (spinning) channel->spin_misses = 0;
      deliver(channel, count);
    }
    if (failure != 0) {
      if (channel->open) end_receiving(channel, failure);
      break;
    }
    uint64_t now = now_ns();
    if (count > 0) {
      spinning = open_spin_window(channel, now);
      awake = true;
      if (now >= turn_end_ns) break;
      continue;
    }
    awake = spinning && now < channel->spin_until_ns;
    if (spinning && !awake) {
      channel->spin_until_ns = 0;
      channel->spin_misses++;
    }
    break;
  }
  channel->in_turn = false;
  if (channel->open) keep_awake(channel, awake && channel->spin_until_ns > 0);
}

static void on_readable(uv_poll_t *handle, int status, int events) {
  (void)events;
  fuse_channel_t *channel = handle->data;
  take_turn(channel);
  // libuv has stopped polling after an error condition; if reading did not end the channel, that does.
  if (status < 0 && channel->open && !channel->paused) end_receiving(channel, status);
}

static void on_idle(uv_idle_t *handle) {
  take_turn(handle->data);
}

// ---- the end

static void free_if_unused(fuse_channel_t *channel) {
  if (channel->open_handles == 0 && channel->collected) free(channel);
}

static void on_handle_closed(uv_handle_t *handle) {
  fuse_channel_t *channel = handle->data;
  addon_state_t *state = channel->state;
  channel->open_handles--;
  if (channel->open_handles == 0) {
    napi_ref references[4] = {channel->self, channel->on_batch, channel->arena, channel->lengths};
    for (int i = 0; i < 4; i++)
      if (references[i] != NULL) require_ok(napi_delete_reference(state->env, references[i]), "fuse channel");
    free_if_unused(channel);
  }
  state->unfinished--;
  addon_finish_if_idle(state);
}

static void close_channel(fuse_channel_t *channel) {
  if (!channel->open) return;
  channel->open = false;
  addon_state_t *state = channel->state;
  if (channel->previous != NULL)
    channel->previous->next = channel->next;
  else
    state->channels = channel->next;
  if (channel->next != NULL) channel->next->previous = channel->previous;
  uv_poll_stop(&channel->poll);
  close(channel->fd);
  uv_close((uv_handle_t *)&channel->poll, on_handle_closed);
  uv_close((uv_handle_t *)&channel->idle, on_handle_closed);
}

void fuse_channel_close_all(addon_state_t *state) {
  while (state->channels != NULL) close_channel(state->channels);
}

static void on_collected(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  fuse_channel_t *channel = data;
  channel->collected = true;
  free_if_unused(channel);
}

// ---- methods of the handle

static fuse_channel_t *channel_of(const arguments_t *args) {
  void *data;
  return napi_unwrap(args->env, args->self, &data) == napi_ok ? data : NULL;
}

static napi_value method_reply(napi_env env, napi_callback_info info) {
  arguments_t args;
  byte_range_t range;
  if (!arguments_get(env, info, 3, &args) || !argument_bytes(&args, 0, &range))
    return number_result(env, -EINVAL);
  fuse_channel_t *channel = channel_of(&args);
  if (channel == NULL) return number_result(env, -EINVAL);
  if (!channel->open) return number_result(env, -EBADF);
  ssize_t n;
  do {
    n = write(channel->fd, range.data, range.length);
  } while (n < 0 && errno == EINTR);
  int result = n >= 0 ? 0 : -errno;
  // A late reply: whoever waited for it is likely to ask again at once.
  if (!channel->in_turn && channel->spin_ns > 0 && !channel->paused && open_spin_window(channel, now_ns()))
    keep_awake(channel, true);
  return number_result(env, result);
}

static napi_value method_pause(napi_env env, napi_callback_info info) {
  arguments_t args;
  fuse_channel_t *channel = arguments_get(env, info, 0, &args) ? channel_of(&args) : NULL;
  if (channel != NULL && channel->open && !channel->paused) {
    channel->paused = true;
    uv_poll_stop(&channel->poll);
    uv_idle_stop(&channel->idle);
  }
  return undefined_result(env);
}

static napi_value method_resume(napi_env env, napi_callback_info info) {
  arguments_t args;
  fuse_channel_t *channel = arguments_get(env, info, 0, &args) ? channel_of(&args) : NULL;
  if (channel != NULL && channel->open && channel->paused) {
    channel->paused = false;
    require_ok(uv_poll_start(&channel->poll, UV_READABLE, on_readable) == 0 ? napi_ok : napi_generic_failure,
               "fuse channel");
  }
  return undefined_result(env);
}

static napi_value method_close(napi_env env, napi_callback_info info) {
  arguments_t args;
  fuse_channel_t *channel = arguments_get(env, info, 0, &args) ? channel_of(&args) : NULL;
  if (channel != NULL) close_channel(channel);
  return undefined_result(env);
}

// ---- opening

typedef struct {
  int fd;
  uint32_t max_write_bytes;
  uint32_t slot_count;
  uint32_t spin_us;
  napi_value on_batch;
} open_options_t;

static bool get_options(const arguments_t *args, open_options_t *out) {
  static const char *const names[5] = {"fd", "maxWriteBytes", "slotCount", "spinUs", "onBatch"};
  arguments_t fields = {.env = args->env, .count = 5};
  for (size_t i = 0; i < 5; i++)
    if (napi_get_named_property(args->env, args->values[0], names[i], &fields.values[i]) != napi_ok) return false;
  return argument_int(&fields, 0, &out->fd) && argument_uint32(&fields, 1, &out->max_write_bytes) &&
         argument_uint32(&fields, 2, &out->slot_count) && argument_uint32(&fields, 3, &out->spin_us) &&
         argument_function(&fields, 4, &out->on_batch) && out->max_write_bytes >= PAGE_BYTES &&
         out->max_write_bytes <= MAX_PAYLOAD_BYTES && out->max_write_bytes % PAGE_BYTES == 0 &&
         out->slot_count >= 1 && out->slot_count <= MAX_SLOTS && out->spin_us <= MAX_SPIN_US;
}

// The arena begins at the first page boundary of a buffer one page longer.
static bool create_arena(napi_env env, fuse_channel_t *channel, napi_value handle) {
  napi_value buffer;
  napi_value view;
  void *data;
  size_t length = channel->stride * channel->slot_count;
  if (napi_create_arraybuffer(env, length + PAGE_BYTES, &data, &buffer) != napi_ok) return false;
  size_t skip = (PAGE_BYTES - (uintptr_t)data % PAGE_BYTES) % PAGE_BYTES;
  channel->slots = (uint8_t *)data + skip;
  return napi_create_typedarray(env, napi_uint8_array, length, buffer, skip, &view) == napi_ok &&
         napi_set_named_property(env, handle, "arena", view) == napi_ok &&
         napi_create_reference(env, buffer, 1, &channel->arena) == napi_ok;
}

static bool create_lengths(napi_env env, fuse_channel_t *channel, napi_value handle) {
  napi_value buffer;
  napi_value view;
  void *data;
  if (napi_create_arraybuffer(env, channel->slot_count * sizeof(uint32_t), &data, &buffer) != napi_ok) return false;
  channel->slot_lengths = data;
  return napi_create_typedarray(env, napi_uint32_array, channel->slot_count, buffer, 0, &view) == napi_ok &&
         napi_set_named_property(env, handle, "lengths", view) == napi_ok &&
         napi_create_reference(env, buffer, 1, &channel->lengths) == napi_ok;
}

static bool fill_handle(napi_env env, fuse_channel_t *channel, napi_value handle) {
  return napi_set_named_property(env, handle, "slotStrideBytes", number_result(env, (int64_t)channel->stride)) ==
             napi_ok &&
         napi_set_named_property(env, handle, "requestOffsetBytes", number_result(env, REQUEST_OFFSET_BYTES)) ==
             napi_ok &&
         create_arena(env, channel, handle) && create_lengths(env, channel, handle) &&
         set_method(env, handle, "reply", method_reply) && set_method(env, handle, "pause", method_pause) &&
         set_method(env, handle, "resume", method_resume) && set_method(env, handle, "close", method_close);
}

static int start_polling(fuse_channel_t *channel) {
  addon_state_t *state = channel->state;
  int flags = fcntl(channel->fd, F_GETFL);
  if (flags < 0 || fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
  int result = uv_poll_init(state->loop, &channel->poll, channel->fd);
  if (result < 0) return result;
  // Cannot fail on Unix.
  uv_idle_init(state->loop, &channel->idle);
  channel->poll.data = channel;
  channel->idle.data = channel;
  channel->open_handles = 2;
  channel->open = true;
  state->unfinished += 2;
  channel->next = state->channels;
  if (channel->next != NULL) channel->next->previous = channel;
  state->channels = channel;
  result = uv_poll_start(&channel->poll, UV_READABLE, on_readable);
  if (result < 0) close_channel(channel);
  return result;
}

static void drop_unstarted(napi_env env, fuse_channel_t *channel) {
  napi_ref references[4] = {channel->self, channel->on_batch, channel->arena, channel->lengths};
  for (int i = 0; i < 4; i++)
    if (references[i] != NULL) require_ok(napi_delete_reference(env, references[i]), "fuse channel");
}

static napi_value call_fuse_open(napi_env env, napi_callback_info info) {
  arguments_t args;
  open_options_t options;
  napi_value handle;
  addon_state_t *state = addon_state_of(env);
  if (!arguments_get(env, info, 1, &args) || !get_options(&args, &options)) return number_result(env, -EINVAL);
  if (state->closing) return number_result(env, -ECANCELED);
  fuse_channel_t *channel = calloc(1, sizeof *channel);
  if (channel == NULL || napi_create_object(env, &handle) != napi_ok ||
      napi_wrap(env, handle, channel, on_collected, NULL, NULL) != napi_ok) {
    free(channel);
    return number_result(env, -ENOMEM);
  }
  uint32_t payload = options.max_write_bytes < MIN_PAYLOAD_BYTES ? MIN_PAYLOAD_BYTES : options.max_write_bytes;
  channel->state = state;
  channel->fd = options.fd;
  channel->stride = PAGE_BYTES + payload;
  channel->request_room = WRITE_HEADER_BYTES + payload;
  channel->slot_count = options.slot_count;
  channel->spin_ns = (uint64_t)options.spin_us * 1000u;
  int result = -ENOMEM;
  if (fill_handle(env, channel, handle) && napi_create_reference(env, options.on_batch, 1, &channel->on_batch) == napi_ok &&
      napi_create_reference(env, handle, 1, &channel->self) == napi_ok)
    result = start_polling(channel);
  if (result >= 0) return handle;
  // Once its handles exist, closing them drops the references. The caller keeps the descriptor only
  // where polling could not begin at all.
  if (channel->open_handles == 0) drop_unstarted(env, channel);
  return number_result(env, result);
}

bool fuse_channel_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "fuseOpen", call_fuse_open);
}
