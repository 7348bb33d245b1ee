// Answers from the documents that fit a question best, chosen among many.
#pragma once

#include <weft/launcher/study/evaluation.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace weft::launcher::study {

enum class document_pool : bool {
  context = false,  // a question's own documents
  set = true        // those of all contexts of the set
};

struct retrieved_cell {
  evaluation_cell answers;
  std::size_t chosen = 0;  // documents, at most
  document_pool pool{};
  double pool_documents = 0;  // mean over questions
  double recall = 0;          // per cent of the questions whose evidence was chosen, with its 95 % interval
  double recall_low = 0;
  double recall_high = 100;
};

// What has to be chosen to answer: for each part of the first answer (parts stand between ", ") the documents
// that hold it together with a name of the question, or with a part before it; where none does, all that hold
// it. A name is a word with a capital that is not the question's first.
std::vector<std::vector<std::size_t>> evidence_of(std::span<const std::string> documents,
                                                  const set_question& question);

// Documents encoded once; each question asked of the best `counts[i]` of its pool, in the order in which they
// stand in the set. One cell for each task and count.
result<std::vector<retrieved_cell>> evaluate_retrieved(loaded_model& model,
                                                       std::span<const set_context> contexts,
                                                       std::span<const std::size_t> counts,
                                                       document_pool pool,
                                                       const evaluation_progress& progress);

}  // namespace weft::launcher::study
