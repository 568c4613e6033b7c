#include "messages.h"

// Its first inclusion defines the numbers of the messages, its second lists their words.
#include <jerror.h>

// The words of two messages, about libjpeg itself, are in a header that is not installed.
#define JCOPYRIGHT_SHORT ""
#define JVERSION ""

namespace freqops::jpeg {
namespace {

constexpr const char* kWords[] = {
#define JMESSAGE(code, words) words,
#include <jerror.h>
};

const char* meaning(int code) {
  switch (code) {
    case JWRN_JPEG_EOF: return "the file is truncated";
    case JWRN_HIT_MARKER: return "blocks are missing: the file is truncated or damaged";
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE: return "bits are damaged";
    case JWRN_EXTRANEOUS_DATA: return "bytes are left over or missing";
    case JWRN_MUST_RESYNC: return "a part of the picture is missing or damaged";
    case JWRN_BOGUS_PROGRESSION: return "a scan is missing or damaged";
    case JERR_NO_IMAGE: return "tables alone, or truncated";
    case JERR_SOF_NO_SOS: return "the file has a header and no scan";
    case JERR_EMPTY_IMAGE: return "height or width is 0";
    default: return "";
  }
}

}  // namespace

void describe(const jpeg_error_mgr& errors, char* text, size_t size) {
  constexpr int kCount = sizeof(kWords) / sizeof(kWords[0]);
  const int code = errors.msg_code > 0 && errors.msg_code < kCount ? errors.msg_code : 0;
  char words[JMSG_LENGTH_MAX];
  const int* i = errors.msg_parm.i;
  // Messages with a string, %s, are about temporary files, of which there are none.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  std::snprintf(words, sizeof(words), kWords[code], i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7]);
#pragma GCC diagnostic pop
  const char* means = meaning(code);
  if (*means) {
    std::snprintf(text, size, "%s (%s)", words, means);
  } else {
    std::snprintf(text, size, "%s", words);
  }
}

}  // namespace freqops::jpeg
