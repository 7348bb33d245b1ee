#include <weft/engine/surrogates.hpp>

#include <utility>

namespace weft::engine {

std::optional<surrogate_kind> surrogate_kind_of(policies::importance_policy policy) {
  using policies::importance_policy;
  if (policy == importance_policy::kvzap_linear) return surrogate_kind::linear;
  if (policy == importance_policy::kvzap_mlp) return surrogate_kind::mlp;
  return std::nullopt;
}

result<surrogate*> surrogates::find(surrogate_kind kind) {
  if (const auto known = loaded_.find(kind); known != loaded_.end()) return &known->second;
  auto loaded = surrogate::load(surrogate_file(model_->folder(), kind), *model_);
  if (!loaded) return tl::unexpected(loaded.error());
  return &loaded_.emplace(kind, std::move(*loaded)).first->second;
}

}  // namespace weft::engine
