// The surrogates that lie beside a model.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/surrogate.hpp>
#include <weft/policies/importance.hpp>

#include <map>
#include <optional>

namespace weft::engine {

// By which a policy scores; none where it needs none.
std::optional<surrogate_kind> surrogate_kind_of(policies::importance_policy policy);

// Each is loaded when it is first wanted. One call at a time.
class surrogates {
 public:
  // `model` outlives this and what it gave.
  explicit surrogates(runner& model) : model_(&model) {}

  // Never null, and valid as long as this. Errors as `surrogate::load`.
  result<surrogate*> find(surrogate_kind kind);

 private:
  runner* model_;
  std::map<surrogate_kind, surrogate> loaded_;
};

}  // namespace weft::engine
