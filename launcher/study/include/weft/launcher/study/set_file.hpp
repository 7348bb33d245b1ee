// Evaluation sets: JSON lines of
// {"id","task","documents":[text,..],"questions":[{"question","answers":[text,..]},..]}.
#pragma once

#include <weft/base/error.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace weft::launcher::study {

struct set_question {
  std::string text;
  std::vector<std::string> answers;  // at least one
};

// Several questions about the same documents.
struct set_context {
  std::string id;
  std::string task;
  std::vector<std::string> documents;
  std::vector<set_question> questions;
};

// `invalid_argument` names the line that is wrong. Blank lines are skipped.
result<std::vector<set_context>> read_set_file(const std::filesystem::path& file);

}  // namespace weft::launcher::study
