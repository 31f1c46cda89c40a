#ifndef UMBRA_CRC32C_H
#define UMBRA_CRC32C_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Picks the implementation for this processor; may be called from any thread, any number of times.
void crc32c_set_up(void);
uint32_t crc32c(uint32_t seed, const uint8_t *bytes, size_t length);
bool crc32c_register(napi_env env, napi_value exports);

#endif
