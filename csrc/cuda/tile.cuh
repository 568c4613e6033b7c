// What both machines share: a thread block's tile of consecutive 8x8 blocks, the shared memory that
// turns rows of pixels into columns of coefficients, statistics.
#pragma once

#include "element.cuh"
#include "launch.cuh"
#include "params.h"

namespace freqops::cuda {

// Blocks in a tile: a warp's lanes, so that a channel is moved in runs of 32 elements. float64 takes
// half as many to stay below 48 KB of shared memory.
template <class acc>
constexpr int kTile = sizeof(acc) == 4 ? 32 : 16;

// One thread for each row of pixels of a block, or for each column of coefficients of a component.
template <class acc>
constexpr int kThreads = kTile<acc> * kBlock;

template <class acc>
unsigned tiles(const Grid& grid) {
  return (grid.blocks + kTile<acc> - 1) / kTile<acc>;
}

// planes[component][u][pitch * y + block], y a row of pixels or v. A pitch of 36 keeps both directions
// free of bank conflicts: a warp of rows touches words 36 y + b = 4 y + b mod 32 with y < 8 and four
// consecutive b, a warp of blocks 32 neighbours. One word more for each u: without it all u of a v lie in
// one bank, which a warp of channels of a block reads.
template <class acc>
constexpr int kPitch = kTile<acc> + 4;
template <class acc>
using Planes = acc[kComponents][kBlock][kBlock * kPitch<acc> + 1];

static_assert(sizeof(Planes<float>) <= 40 * 1024 && sizeof(Planes<double>) <= 40 * 1024);

// A block's place in the batch.
struct Place {
  uint32_t picture, row, column;
  uint32_t index;  // in its picture
};

__device__ __forceinline__ uint32_t quotient(uint32_t n, const Divisor& d) {
  return (uint32_t(uint64_t(n) * d.multiplier >> 32) + n) >> d.shift;
}

__device__ __forceinline__ Place place(uint32_t block, const Grid& grid) {
  const uint32_t picture = quotient(block, grid.area);
  const uint32_t index = block - picture * grid.area.divisor;
  const uint32_t row = quotient(index, grid.width);
  return {picture, row, index - row * grid.width.divisor, index};
}

template <class T>
__device__ __forceinline__ T smaller(T a, T b) {
  return a < b ? a : b;
}

template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return a > b ? a : b;
}

template <class acc>
__device__ __forceinline__ acc element(const Statistic& s, int i) {
  return s.is_double ? acc(static_cast<const double*>(s.data)[i])
                     : acc(static_cast<const float*>(s.data)[i]);
}

// mean or std of entry e.
template <class acc>
__device__ __forceinline__ acc statistic(const Statistic& s, const Channels& channels, int e) {
  return element<acc>(s, s.by_coefficient ? channels.coefficient[e] : channels.position[e]);
}

// Entry e of the channels in shared memory: tensor = coefficient * scale + offset on the way out,
// coefficient = tensor * scale on the way in. In float32 one load of 16 bytes.
template <class acc>
struct alignas(16) Entry {
  acc scale, offset;
  int64_t channel;  // bytes from a block's first channel
};

// Where entry e lies in shared memory. With one entry for a coefficient at most it can be where the
// coefficient says, so that a thread finds those of its column at constant distances.
__device__ __forceinline__ int slot_of(const Channels& channels, int e, bool by_coefficient) {
  return by_coefficient ? transposed(channels.coefficient[e]) : e;
}

}  // namespace freqops::cuda
