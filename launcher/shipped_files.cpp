#include <weft/launcher/shipped_files.hpp>

#include <initializer_list>
#include <string>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;

// The first of the places, seen from the program's folder, that holds `witness`.
result<fs::path> find_shipped(std::initializer_list<const char*> places, const char* witness,
                              const std::string& what, const std::string& option) {
  const auto program_folder = program_path().parent_path();
  for (const auto* place : places) {
    const auto folder = (program_folder / place).lexically_normal();
    std::error_code ignored;
    if (fs::exists(folder / witness, ignored)) return folder;
  }
  return fail(errc::not_found, "the " + what + " that comes with weft is not near " +
                                   program_path().string() + "; name one with " + option);
}

}  // namespace

fs::path program_path() {
  return fs::read_symlink("/proc/self/exe");
}

result<fs::path> shipped_model_folder() {
  return find_shipped({"../../models/recall", "../share/weft/models/recall"}, "config.json", "model",
                      "--model");
}

result<fs::path> shipped_documents_folder() {
  return find_shipped({"../../examples/documents", "../share/weft/examples/documents"}, "questions.json",
                      "folder of example documents", "--documents");
}

}  // namespace weft::launcher
