#include "dequantize.h"

#include <algorithm>
#include <limits>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace freqops::jpeg {
namespace {

constexpr int32_t kLow = std::numeric_limits<int16_t>::min();
constexpr int32_t kHigh = std::numeric_limits<int16_t>::max();

// |product| <= 2^15 (2^16 - 1) < 2^31
void multiply_wide(int16_t* block, const uint16_t* table) {
  for (int k = 0; k < kBlock; ++k) {
    const int32_t product = int32_t{block[k]} * int32_t{table[k]};
    block[k] = static_cast<int16_t>(std::clamp(product, kLow, kHigh));
  }
}

// Steps below 2^15, as all of 8-bit tables are.
void multiply(int16_t* block, const uint16_t* table) {
#ifdef __SSE2__
  constexpr int kLanes = 8;
  static_assert(kBlock % kLanes == 0);
  for (int k = 0; k < kBlock; k += kLanes) {
    auto* at = reinterpret_cast<__m128i*>(block + k);
    const __m128i x = _mm_loadu_si128(at);
    const __m128i step = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + k));
    const __m128i low = _mm_mullo_epi16(x, step);
    const __m128i high = _mm_mulhi_epi16(x, step);
    // Products of 32 bits, narrowed with saturation.
    _mm_storeu_si128(at,
                     _mm_packs_epi32(_mm_unpacklo_epi16(low, high), _mm_unpackhi_epi16(low, high)));
  }
#else
  multiply_wide(block, table);
#endif
}

}  // namespace

void dequantize(Plane* plane) {
  const bool wide =
      std::any_of(plane->table, plane->table + kBlock, [](uint16_t step) { return step > kHigh; });
  for (int64_t row = 0; row < plane->rows; ++row) {
    int16_t* block = plane->values.get() + row * plane->stride * kBlock;
    for (int64_t column = 0; column < plane->columns; ++column, block += kBlock) {
      wide ? multiply_wide(block, plane->table) : multiply(block, plane->table);
    }
  }
}

}  // namespace freqops::jpeg
