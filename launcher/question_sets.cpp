#include "question_sets.hpp"

#include <nlohmann/json.hpp>

#include <fstream>
#include <sstream>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

question_set set_from(const json& entry) {
  question_set set;
  set.documents = entry.at("documents").get<std::vector<std::string>>();
  for (const auto& asked : entry.at("questions")) {
    set.questions.push_back({asked.at("question").get<std::string>(), asked.at("answer").get<std::string>()});
  }
  return set;
}

}  // namespace

result<std::string> read_text_file(const fs::path& file) {
  std::error_code ignored;
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  if (!stream || !fs::is_regular_file(file, ignored)) {
    return fail(errc::io, "cannot read " + file.string() + "; check that it is there and readable");
  }
  text << stream.rdbuf();
  return text.str();
}

result<std::vector<question_set>> read_question_sets(const fs::path& documents_folder) {
  const auto file = documents_folder / "questions.json";
  const auto text = read_text_file(file);
  if (!text) return tl::unexpected(text.error());
  try {
    std::vector<question_set> sets;
    const auto document = json::parse(*text);
    for (const auto& entry : document.at("sets"))
      sets.push_back(set_from(entry));
    return sets;
  } catch (const json::exception& e) {
    return fail(
        errc::invalid_argument,
        file.string() +
            R"( is not of the form {"sets":[{"documents":[..],"questions":[{"question","answer"}]}]}: )" +
            e.what());
  }
}

}  // namespace weft::launcher
