// What every kind of `weft eval` is asked about: a model, and sets of questions.
#pragma once

#include <weft/base/error.hpp>
#include <weft/launcher/study/evaluation.hpp>
#include <weft/launcher/study/loaded_model.hpp>
#include <weft/launcher/study/set_file.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace weft::launcher::study {

struct eval_input {
  std::filesystem::path model;
  std::vector<std::filesystem::path> sets;
  std::string format = "auto";     // of the sets
  std::size_t longest_tokens = 0;  // contexts lose their middle beyond that; 0: they are taken as they are
  std::string dtype = "auto";
  std::size_t limit = 0;      // contexts of each set; 0: all
  std::size_t questions = 0;  // of each context; 0: all
  unsigned threads = 0;
};

struct named_set {
  std::filesystem::path file;
  std::string name;  // the file's, without its ending
  std::vector<set_context> contexts;
};

result<std::vector<named_set>> read_sets(const eval_input& input);

// Cuts the middle out of the documents of every context that has more than `longest_tokens`, so that each
// keeps its share of them: the first half and the last half of its tokens.
void cut_middles(std::vector<named_set>& sets, const loaded_model& model, std::size_t longest_tokens);

// Logs how many of a set's contexts are done. `what` says with which policy.
evaluation_progress logged_progress(const named_set& set, std::string what);

// The same error with the set's file in front.
error in_set(const named_set& set, const error& e);

}  // namespace weft::launcher::study
