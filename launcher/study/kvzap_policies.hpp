// KVzap while decoding, for a number of rows: a model's surrogates, and thresholds from a prompt's guesses.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/adaptive/session.hpp>
#include <weft/engine/surrogates.hpp>
#include <weft/policies/adaptive/cache_policy.hpp>

#include <cstdint>
#include <memory>

namespace weft::launcher::study {

class kvzap_policies {
 public:
  // `model` must outlive this and the policies, this the policies.
  explicit kvzap_policies(engine::runner& model) : model_(model), surrogates_(model) {}

  // Its threshold leaves `rows` of the prompt's rows to a head, in the mean of all: the first 4, the last
  // ones (a quarter, at most 128), and the best of the others; for the record of a prompt with hidden states.
  // Rows that follow are tested by the same threshold, so how many stay is up to them. What
  // `engine::surrogate::load` says where the model has none.
  result<std::unique_ptr<policies::adaptive::cache_policy>> policy(engine::surrogate_kind kind,
                                                                   std::uint32_t rows,
                                                                   const engine::prompt_record& record);

 private:
  engine::runner& model_;
  engine::surrogates surrogates_;
};

}  // namespace weft::launcher::study
