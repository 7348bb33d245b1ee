// What comes with the program: the small model and the example documents. Found from where the program lies,
// in the source tree (build/release/weft) or installed (bin/weft).
#pragma once

#include <weft/base/error.hpp>

#include <filesystem>

namespace weft::launcher {

// This program's file, symbolic links resolved.
std::filesystem::path program_path();

result<std::filesystem::path> shipped_model_folder();
result<std::filesystem::path> shipped_documents_folder();

}  // namespace weft::launcher
