// The clock that the kernel stamps files with: CLOCK_REALTIME at the last tick.
#include "clock.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "arguments.h"

static napi_value call_coarse_time(napi_env env, napi_callback_info info) {
  arguments_t args;
  byte_range_t target;
  if (!arguments_get(env, info, 3, &args) || !argument_bytes(&args, 0, &target) ||
      target.length != 2 * sizeof(double))
    return number_result(env, -EINVAL);
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME_COARSE, &now) != 0) return number_result(env, -errno);
  double values[2] = {(double)now.tv_sec, (double)now.tv_nsec};
  memcpy(target.data, values, sizeof values);
  return number_result(env, 0);
}

bool clock_register(napi_env env, napi_value exports) {
  return set_method(env, exports, "coarseTime", call_coarse_time);
}
