// The questions that come with a folder of documents: its questions.json.
#pragma once

#include <weft/base/error.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace weft::launcher {

struct asked_question {
  std::string question;
  std::string answer;  // the right one
};

// Questions that need these documents, all of them in one prompt.
struct question_set {
  std::vector<std::string> documents;  // file names in the folder, in the order of the prompt
  std::vector<asked_question> questions;
};

// `invalid_argument` names what is wrong with the file.
result<std::vector<question_set>> read_question_sets(const std::filesystem::path& documents_folder);

// The bytes of a file; `io` when it cannot be read.
result<std::string> read_text_file(const std::filesystem::path& file);

}  // namespace weft::launcher
