// CRC32C (reflected polynomial 0x82F63B78), chained, without final inversion.
//
// The processor's instruction has a latency of three cycles but starts one every cycle, so long
// inputs run as three streams side by side. The streams are joined by what CRC is: linear. Moving a
// checksum past STREAM_BYTES zero bytes is a 32x32 bit matrix, kept as four tables of 256 words.
#include "crc32c.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

#include "arguments.h"

// Three streams cover a 4096-byte block less its last 16 bytes, and one with its checksum cut off.
#define STREAM_BYTES 1360

typedef uint32_t (*crc32c_function)(uint32_t crc, const uint8_t *bytes, size_t length);

static uint32_t byte_tables[8][256];
static uint32_t shift_tables[4][256];
static crc32c_function chosen;
static uv_once_t once = UV_ONCE_INIT;

static uint64_t load64(const uint8_t *bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

static uint32_t by_table(uint32_t crc, const uint8_t *bytes, size_t length) {
  for (; length >= 8; bytes += 8, length -= 8) {
    uint32_t low = crc ^ ((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                          (uint32_t)bytes[3] << 24);
    crc = byte_tables[7][low & 0xff] ^ byte_tables[6][low >> 8 & 0xff] ^ byte_tables[5][low >> 16 & 0xff] ^
          byte_tables[4][low >> 24] ^ byte_tables[3][bytes[4]] ^ byte_tables[2][bytes[5]] ^
          byte_tables[1][bytes[6]] ^ byte_tables[0][bytes[7]];
  }
  for (; length > 0; bytes++, length--) crc = crc >> 8 ^ byte_tables[0][(crc ^ *bytes) & 0xff];
  return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HARDWARE __attribute__((target("sse4.2")))
#define STEP64(crc, word) ((uint32_t)_mm_crc32_u64((crc), (word)))
#define STEP8(crc, byte) _mm_crc32_u8((crc), (byte))

static bool hardware_is_there(void) {
  return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <sys/auxv.h>
// Like arm_acle.h, but usable in a function that alone is compiled for the extension.
#define HARDWARE __attribute__((target("+crc")))
#define STEP64(crc, word) __builtin_aarch64_crc32cx((crc), (word))
#define STEP8(crc, byte) __builtin_aarch64_crc32cb((crc), (byte))
#define HWCAP_CRC32_BIT (1UL << 7)

static bool hardware_is_there(void) {
  return (getauxval(AT_HWCAP) & HWCAP_CRC32_BIT) != 0;
}
#endif

#ifdef HARDWARE
static uint32_t past_stream(uint32_t crc) {
  return shift_tables[0][crc & 0xff] ^ shift_tables[1][crc >> 8 & 0xff] ^ shift_tables[2][crc >> 16 & 0xff] ^
         shift_tables[3][crc >> 24];
}

HARDWARE static uint32_t by_hardware(uint32_t crc, const uint8_t *bytes, size_t length) {
  while (length >= 3 * STREAM_BYTES) {
    uint32_t second = 0;
    uint32_t third = 0;
    for (size_t at = 0; at < STREAM_BYTES; at += 8) {
      crc = STEP64(crc, load64(bytes + at));
      second = STEP64(second, load64(bytes + STREAM_BYTES + at));
      third = STEP64(third, load64(bytes + 2 * STREAM_BYTES + at));
    }
    crc = past_stream(past_stream(crc) ^ second) ^ third;
    bytes += 3 * STREAM_BYTES;
    length -= 3 * STREAM_BYTES;
  }
  for (; length >= 8; bytes += 8, length -= 8) crc = STEP64(crc, load64(bytes));
  for (; length > 0; bytes++, length--) crc = STEP8(crc, *bytes);
  return crc;
}
#endif

static void build_tables(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    byte_tables[0][i] = crc;
  }
  for (int table = 1; table < 8; table++)
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t before = byte_tables[table - 1][i];
      byte_tables[table][i] = before >> 8 ^ byte_tables[0][before & 0xff];
    }
  static const uint8_t zeros[STREAM_BYTES];
  for (int table = 0; table < 4; table++)
    for (uint32_t i = 0; i < 256; i++) shift_tables[table][i] = by_table(i << 8 * table, zeros, STREAM_BYTES);
}

static void set_up_once(void) {
  build_tables();
  chosen = by_table;
#ifdef HARDWARE
  if (hardware_is_there()) chosen = by_hardware;
#else
  (void)load64;
#endif
}

void crc32c_set_up(void) {
  uv_once(&once, set_up_once);
}

uint32_t crc32c(uint32_t seed, const uint8_t *bytes, size_t length) {
  return chosen(seed, bytes, length);
}

static napi_value call_crc32c(napi_env env, napi_callback_info info) {
  arguments_t args;
  uint32_t seed;
  byte_range_t range;
  if (!arguments_get(env, info, 4, &args) || !argument_uint32(&args, 0, &seed) ||
      !argument_bytes(&args, 1, &range))
    return number_result(env, -EINVAL);
  napi_value result;
  require_ok(napi_create_uint32(env, crc32c(seed, range.data, range.length), &result), "crc32c");
  return result;
}

static napi_value call_crc32c_table(napi_env env, napi_callback_info info) {
  arguments_t args;
  uint32_t seed;
  byte_range_t range;
  if (!arguments_get(env, info, 4, &args) || !argument_uint32(&args, 0, &seed) ||
      !argument_bytes(&args, 1, &range))
    return number_result(env, -EINVAL);
  napi_value result;
  require_ok(napi_create_uint32(env, by_table(seed, range.data, range.length), &result), "crc32cTable");
  return result;
}

bool crc32c_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "crc32c", call_crc32c) &&
         set_method(env, exports, "crc32cTable", call_crc32c_table);
}
