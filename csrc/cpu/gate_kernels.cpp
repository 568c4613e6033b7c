// Features times their gates, and the sums that their gradient needs, in one pass over memory.
#include <cstring>

#include "convert.h"
#include "isa.h"

namespace freqops::cpu {
namespace {

// Elements and vectors of sums in a cache line.
template <class T>
constexpr int kLineElements = kLine / int(sizeof(T));
template <class T, class acc>
constexpr int kLineVectors = kLineElements<T> / kLanes<acc>;

template <class T>
FREQOPS_INLINE void store_line(T* to, Line line, bool stream) {
  if (stream)
    store_line_past_caches(to, line);
  else
    store_vector(to, line);
}

// What a plane's gate does to its elements: a closed gate is not a product, which would let NaN
// through, and an open one is a copy.
enum class Mode { kZero, kCopy, kScale };

// part[v] += in * beside of a line.
template <class T, class acc>
FREQOPS_INLINE void add_products(const T* in, const T* beside, Vec<acc>* part) {
  for (int v = 0; v < kLineVectors<T, acc>; ++v)
    part[v] += load<acc>(in + v * kLanes<acc>) * load<acc>(beside + v * kLanes<acc>);
}

// Lines are summed in groups, and groups in turn: a float's error grows with the length of a chain
// of sums, which is here 64 and then a chunk's 16.
constexpr int64_t kGroupLines = 64;

// `count` neighbouring elements of one plane; returns the sum of in * beside.
template <class T, class acc, Mode mode, bool store_out, bool sum>
acc gate_run(const T* in, const T* beside, T* out, int64_t count, acc gate, bool stream) {
  constexpr int E = kLineElements<T>, N = kLanes<acc>;
  Vec<acc> total = {};
  int64_t i = 0;
  while (i + E <= count) {
    Vec<acc> part[kLineVectors<T, acc>] = {};
    for (int64_t line = 0; line < kGroupLines && i + E <= count; ++line, i += E) {
      if constexpr (store_out) {
        if constexpr (mode == Mode::kZero) store_line(out + i, Line{}, stream);
        if constexpr (mode == Mode::kCopy) store_line(out + i, load_vector<Line>(in + i), stream);
        if constexpr (mode == Mode::kScale) {
          T scaled[E];
          for (int v = 0; v < kLineVectors<T, acc>; ++v)
            cpu::store<acc>(scaled + v * N, load<acc>(in + i + v * N) * gate);
          store_line(out + i, load_vector<Line>(scaled), stream);
        }
      }
      if constexpr (sum) add_products<T, acc>(in + i, beside + i, part);
    }
    for (const Vec<acc>& p : part) total += p;
  }
  const int64_t rest = count - i;
  if constexpr (store_out) {
    if constexpr (mode == Mode::kZero) std::memset(out + i, 0, rest * sizeof(T));
    if constexpr (mode == Mode::kCopy) std::memcpy(out + i, in + i, rest * sizeof(T));
  }
  for (int64_t j = i; j < count; j += N) {
    const int n = int(count - j < N ? count - j : N);
    if constexpr (store_out && mode == Mode::kScale)
      store_some<acc>(out + j, load_some<acc>(in + j, n) * gate, n);
    if constexpr (sum) total += load_some<acc>(in + j, n) * load_some<acc>(beside + j, n);
  }
  acc result = 0;
  if constexpr (sum)
    for (int lane = 0; lane < N; ++lane) result += total[lane];
  return result;
}

template <class T, class acc, Mode mode>
acc gate_mode(const T* in, const T* beside, T* out, int64_t count, acc gate, bool stream) {
  if (!beside) return gate_run<T, acc, mode, true, false>(in, beside, out, count, gate, stream);
  if (out) return gate_run<T, acc, mode, true, true>(in, beside, out, count, gate, stream);
  return gate_run<T, acc, mode, false, true>(in, beside, out, count, gate, stream);
}

template <class T, class acc>
void gate_planes(const Gating<acc>& p, int64_t begin, int64_t end) {
  const int64_t pixels = p.features.pixels, chunks = p.chunks;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t plane = item / chunks, first = (item - plane * chunks) * p.chunk;
    const int64_t count = pixels - first < p.chunk ? pixels - first : p.chunk;
    const int64_t at = plane * pixels + first;
    const T* in = static_cast<const T*>(p.in) + at;
    const T* beside = p.beside ? static_cast<const T*>(p.beside) + at : nullptr;
    T* out = p.out ? static_cast<T*>(p.out) + at : nullptr;
    const bool stream = p.stream && reinterpret_cast<uintptr_t>(out) % kLine == 0;
    const acc gate = p.gates[plane];
    acc sum;
    if (gate == 0)
      sum = gate_mode<T, acc, Mode::kZero>(in, beside, out, count, gate, stream);
    else if (gate == 1)
      sum = gate_mode<T, acc, Mode::kCopy>(in, beside, out, count, gate, stream);
    else
      sum = gate_mode<T, acc, Mode::kScale>(in, beside, out, count, gate, stream);
    if (p.sums) p.sums[item] = sum;
  }
}

template <class acc>
FREQOPS_INLINE Vec<acc> gated(Vec<acc> x, Vec<acc> gate) {
  const Vec<acc> zero = {};
  return gate == zero ? zero : x * gate;
}

// scratch: the gates of one period, and its sums.
template <class T, class acc>
void gate_rows(const Gating<acc>& p, acc* scratch, int64_t begin, int64_t end) {
  constexpr int E = kLineElements<T>, N = kLanes<acc>;
  const Features& f = p.features;
  const int64_t chunks = p.chunks, step = p.chunk, period = p.period;
  acc *const gates = scratch, *const sums = scratch + period;
  int64_t picture = -1;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t n = item / chunks, first = (item - n * chunks) * step;
    if (n != picture) {
      picture = n;
      for (int64_t j = 0; j < period; ++j) gates[j] = p.gates[n * f.channels + j % f.channels];
    }
    const int64_t pixels = f.pixels - first < step ? f.pixels - first : step;
    const int64_t count = pixels * f.channels, at = (n * f.pixels + first) * f.channels;
    const T* in = static_cast<const T*>(p.in) + at;
    const T* beside = p.beside ? static_cast<const T*>(p.beside) + at : nullptr;
    T* out = p.out ? static_cast<T*>(p.out) + at : nullptr;
    const bool stream = p.stream && reinterpret_cast<uintptr_t>(out) % kLine == 0;
    if (beside) std::memset(sums, 0, size_t(period) * sizeof(acc));
    int64_t i = 0, j = 0;  // element, and its place in the period
    for (; i + E <= count; i += E, j = j + E == period ? 0 : j + E) {
      if (out) {
        T line[E];
        for (int v = 0; v < kLineVectors<T, acc>; ++v)
          store<acc>(line + v * N,
                     gated<acc>(load<acc>(in + i + v * N), load<acc>(gates + j + v * N)));
        store_line(out + i, load_vector<Line>(line), stream);
      }
      if (beside) {
        for (int v = 0; v < kLineVectors<T, acc>; ++v) {
          acc* sum = sums + j + v * N;
          store_vector(sum,
                       load<acc>(sum) + load<acc>(in + i + v * N) * load<acc>(beside + i + v * N));
        }
      }
    }
    for (; i < count; ++i, ++j) {
      if (out) narrow(gates[j] == 0 ? acc(0) : acc(widen(in[i])) * gates[j], out + i);
      if (beside) sums[j] += acc(widen(in[i])) * acc(widen(beside[i]));
    }
    if (!beside) continue;
    for (int64_t c = 0; c < f.channels; ++c) {
      acc sum = 0;
      for (int64_t k = c; k < period; k += f.channels) sum += sums[k];
      p.sums[item * f.channels + c] = sum;
    }
  }
}

template <class T, class acc>
void gate_items(const Gating<acc>& p, acc* scratch, int64_t begin, int64_t end) {
  if (p.features.channels_last)
    gate_rows<T, acc>(p, scratch, begin, end);
  else
    gate_planes<T, acc>(p, begin, end);
  order_stores();
}

template <class acc>
void gate_any(const Gating<acc>& p, acc* scratch, int64_t begin, int64_t end) {
  switch (p.features.type) {
    case Type::kHalf: return gate_items<Half, acc>(p, scratch, begin, end);
    case Type::kBfloat16: return gate_items<BFloat16, acc>(p, scratch, begin, end);
    case Type::kFloat: return gate_items<float, acc>(p, scratch, begin, end);
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return gate_items<double, acc>(p, scratch, begin, end);
      return;
    case Type::kUint8: return;  // no features
  }
}

}  // namespace

namespace FREQOPS_ISA {

void gating(const Gating<float>& p, float* scratch, int64_t begin, int64_t end) {
  gate_any(p, scratch, begin, end);
}
void gating(const Gating<double>& p, double* scratch, int64_t begin, int64_t end) {
  gate_any(p, scratch, begin, end);
}

}  // namespace FREQOPS_ISA

}  // namespace freqops::cpu
