// __half and __nv_bfloat16 as 16 bits with conversions: round to nearest, ties to even, as the GPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulation {

inline uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// binary16: 5 bits of exponent (bias 15), 10 of fraction.
inline uint16_t half_from_float(float x) {
  const uint32_t bits = float_bits(x);
  const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  const float size = std::fabs(x);
  if (std::isnan(x)) return uint16_t(sign | 0x7e00);
  if (size >= 65520) return uint16_t(sign | 0x7c00);  // rounds to 65536: infinity
  if (size < 0x1p-14f)                                // subnormal: a multiple of 2^-24
    return uint16_t(sign | uint16_t(std::nearbyint(size * 0x1p24f)));
  const uint32_t magnitude = (bits & 0x7fffffff) - (112u << 23);  // bias 127 -> 15
  return uint16_t(sign | ((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

inline float float_from_half(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
  float size;
  if (exponent == 0) {
    size = float(fraction) * 0x1p-24f;
  } else {
    size = bits_float((exponent == 31 ? 255u << 23 : (exponent + 112) << 23) | fraction << 13);
  }
  return bits_float(float_bits(size) | sign);
}

inline uint16_t bfloat16_from_float(float x) {
  const uint32_t bits = float_bits(x);
  if (std::isnan(x)) return uint16_t((bits >> 16) | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace emulation

struct __half {
  uint16_t bits;
  __half() = default;
  explicit __half(float x) : bits(emulation::half_from_float(x)) {}
  explicit __half(double x) : __half(float(x)) {}
  explicit operator float() const { return emulation::float_from_half(bits); }
};

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float x) : bits(emulation::bfloat16_from_float(x)) {}
  explicit __nv_bfloat16(double x) : __nv_bfloat16(float(x)) {}
  explicit operator float() const { return emulation::bits_float(uint32_t(bits) << 16); }
};
