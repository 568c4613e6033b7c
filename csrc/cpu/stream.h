// When a result is worth writing past the caches.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace freqops::cpu {

// Beyond the second-level cache of a core. The lines of such a result would be read from memory
// before they are written, and pushed out again before anyone reads them.
constexpr int64_t kStreamBytes = 2 << 20;

// Whether the page at an address has been touched. One that has not is cleared at its first touch,
// through the caches, and then best written there: so are results that malloc maps anew on each
// call, which glibc does above 32 MB.
inline bool is_resident(const void* address) {
#if defined(__linux__)
  const auto page = uintptr_t(sysconf(_SC_PAGESIZE));
  unsigned char resident = 1;
  const uintptr_t start = reinterpret_cast<uintptr_t>(address) / page * page;
  if (mincore(reinterpret_cast<void*>(start), 1, &resident) == 0) return resident & 1;
#else
  (void)address;
#endif
  return true;
}

// The page in the middle stands for all: the first holds the allocator's own words.
inline bool is_streamed(const void* result, int64_t bytes) {
  return bytes > kStreamBytes && is_resident(static_cast<const char*>(result) + bytes / 2);
}

}  // namespace freqops::cpu
