// Places in the source: what threads that do something together come to.
#pragma once

#include <cstring>

namespace weft::kernels::cuda_on_host {

struct source_place {
  const char* file = "";
  unsigned line = 0;

  // As a default argument: where the function is called. (std::source_location is not known to every compiler
  // that reads this.)
  static constexpr source_place here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return {file, line};
  }
  friend bool operator==(const source_place& a, const source_place& b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
  }
};

}  // namespace weft::kernels::cuda_on_host
