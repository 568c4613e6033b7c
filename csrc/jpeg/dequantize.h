#pragma once

#include "read.h"

namespace freqops::jpeg {

// value = value * table[v * 8 + u], saturated to int16, in the blocks that hold the picture.
void dequantize(Plane* plane);

}  // namespace freqops::jpeg
