// The three ways that bytes of a fetch come in.
#include "ucx/fetches.hpp"
#include "ucx/mapped_copy.hpp"
#include "ucx/status.hpp"

#include <algorithm>

namespace weft::fabric {

namespace {

constexpr std::uint64_t get_piece_bytes = std::uint64_t{1} << 20;
constexpr unsigned gets_in_flight_max = 16;  // of one fetch
constexpr unsigned gets_of_a_turn_max = 64;  // between looks at everything else; some are complete at once
constexpr unsigned requests_in_flight_max = 64;  // at one owner
constexpr auto get_grace = std::chrono::milliseconds{100};

error error_of_refusal(refusal reason) {
  switch (reason) {
    case refusal::out_of_bounds:
      return {errc::invalid_argument, "the owner refused: a range outside its arena"};
    case refusal::too_many_waiting:
      return {errc::overloaded, "the owner refused: too many fetches wait there; try again later"};
    case refusal::malformed:
      break;
  }
  return {errc::invalid_argument, "the owner refused the request as malformed"};
}

}  // namespace

// -- mapped ---------------------------------------------------------------------------------------

bool fetches::pump_mapped() {
  for (auto turns = mapped_.size(); turns > 0; --turns) {
    const auto id = mapped_.front();
    mapped_.pop_front();
    auto* operation = find(id);
    if (operation == nullptr) continue;
    auto* peer = peer_of(*operation);
    if (peer == nullptr) continue;  // its closing ends the operation
    if (operation->in_place
            ? show_some(*operation)
            : copy_some(*operation, source_of(*operation, *peer), destination_of(*operation))) {
      conclude(*operation);
    } else {
      mapped_.push_back(id);
    }
  }
  return !mapped_.empty();
}

// -- gets -----------------------------------------------------------------------------------------

bool fetches::pump_gets() {
  auto left = gets_of_a_turn_max;
  for (auto turns = gets_.size(); turns > 0 && left > 0; --turns) {
    const auto id = gets_.front();
    gets_.pop_front();
    auto* operation = find(id);
    if (operation == nullptr || operation->ended_by) continue;
    auto* peer = peer_of(*operation);
    if (peer == nullptr) continue;
    issue_gets(*operation, *peer, left);
    // Issuing may have ended it.
    operation = find(id);
    if (operation == nullptr || operation->ended_by) continue;
    if (!operation->all_asked()) {
      gets_.push_back(id);
    } else if (operation->in_flight == 0) {
      conclude(*operation);
    }
  }
  return left == 0;
}

void fetches::issue_gets(fetch_operation& operation, connection& peer, unsigned& left) {
  operation.skip_empty_ranges();
  for (; left > 0 && !operation.all_asked() && operation.in_flight < gets_in_flight_max; --left)
    if (!issue_get(operation, peer)) return;
}

// False: the operation is ending.
bool fetches::issue_get(fetch_operation& operation, connection& peer) {
  const auto& range = operation.ranges[operation.range];
  const auto bytes = std::min(get_piece_bytes, range.length_bytes - operation.offset);
  auto* destination = destination_of(operation).data() + range.local_offset + operation.offset;
  const auto source = peer.region->base() + range.remote_offset + operation.offset;

  piece_pointer slot;
  if (free_pieces_.empty()) {
    slot = std::make_unique<piece>();
  } else {
    slot = std::move(free_pieces_.back());
    free_pieces_.pop_back();
  }
  *slot = {this, operation.id, static_cast<std::uint32_t>(operation.range), bytes};
  ++operation.in_flight;
  ++operation.range_pieces[operation.range];
  operation.offset += bytes;
  operation.skip_empty_ranges();

  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  if (!operation.probing) params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
  params.cb.send = [](void* request, ucs_status_t status, void* argument) {
    on_get(request, status, argument);
  };
  params.user_data = slot.get();
  params.memh = operation.into ? operation.into->handle() : arena_.handle();
  if (operation.into) {
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    params.memory_type = operation.into->type();
  }
  auto* request = ucp_get_nbx(peer.endpoint->get(), destination, bytes, source, peer.region->key(), &params);
  if (UCS_PTR_IS_PTR(request)) {
    [[maybe_unused]] const auto* held_by_ucx = slot.release();
    return true;
  }
  const auto status = UCS_PTR_STATUS(request);
  --operation.in_flight;
  if (status == UCS_OK) {
    --operation.range_pieces[slot->range];
    operation.bytes_done += bytes;
    free_pieces_.push_back(std::move(slot));
    return true;
  }
  free_pieces_.push_back(std::move(slot));
  end(operation.id, error_of(status, "reading one-sidedly"));
  return false;
}

void fetches::on_get(void* request, ucs_status_t status, void* argument) {
  piece_pointer done{static_cast<piece*>(argument)};
  ucp_request_free(request);
  auto* owner = done->owner;
  owner->finish_piece(std::move(done), status);
}

void fetches::finish_piece(piece_pointer done, ucs_status_t status) {
  const auto slot = *done;
  free_pieces_.push_back(std::move(done));
  auto& operation = *operations_.at(number(slot.operation));
  --operation.in_flight;
  if (status == UCS_OK) {
    --operation.range_pieces[slot.range];
    operation.bytes_done += slot.bytes;
    if (operation.in_flight == 0 && (operation.all_asked() || operation.ended_by)) conclude(operation);
  } else if (operation.ended_by) {
    if (operation.in_flight == 0) conclude(operation);
  } else {
    end(slot.operation, error_of(status, "reading one-sidedly"));
  }
}

void fetches::end_gets(fetch_operation& operation) {
  if (operation.in_flight == 0) return conclude(operation);
  auto entry = deadlines_.extract(std::pair{operation.deadline, number(operation.id)});
  operation.deadline = now_ + get_grace;
  entry.value().first = operation.deadline;
  deadlines_.insert(std::move(entry));
}

// -- pushed ---------------------------------------------------------------------------------------

void fetches::start_pushed(fetch_operation& operation, connection& peer) {
  if (operation.ranges.size() > max_fetch_ranges)
    return end(operation.id, {errc::invalid_argument,
                              "a fetch of " + std::to_string(operation.ranges.size()) + " ranges; at most " +
                                  std::to_string(max_fetch_ranges) + " go into one, split it"});
  std::vector<std::uint64_t> lengths(operation.ranges.size());
  std::transform(operation.ranges.begin(), operation.ranges.end(), lengths.begin(),
                 [](const fetch_range& r) { return r.length_bytes; });
  auto plan = chunk_plan::make(std::move(lengths), chunk_bytes_);
  if (!plan) return end(operation.id, plan.error());
  operation.sink = push_sink{operation.ranges, std::move(*plan)};
  if (operation.sink.complete()) return conclude(operation);
  if (peer.requests_in_flight >= requests_in_flight_max) {
    peer.requests_waiting.push_back(operation.id);
  } else {
    request(operation, peer);
  }
}

void fetches::request(fetch_operation& operation, connection& peer) {
  operation.requested = true;
  ++peer.requests_in_flight;
  const fetch_request_header header{number(operation.id), chunk_bytes_,
                                    static_cast<std::uint32_t>(operation.ranges.size())};
  auto message = sender_.make(message_kind::fetch_request, encode(header));
  message->staging.clear();
  for (const auto& range : operation.ranges)
    append(message->staging, wire_range{range.remote_offset, range.length_bytes});
  message->payload = message->staging;
  // A failure to send is a failure of the endpoint, which ends its operations.
  sender_.send(peer.endpoint->get(), std::move(message));
}

void fetches::request_next(connection& peer) {
  while (!peer.requests_waiting.empty() && peer.requests_in_flight < requests_in_flight_max) {
    const auto id = peer.requests_waiting.front();
    peer.requests_waiting.pop_front();
    if (auto* operation = find(id)) request(*operation, peer);
  }
}

void fetches::tell_cancelled(const fetch_operation& operation) {
  auto* peer = peer_of(operation);
  if (peer == nullptr || !operation.requested || peer->broken) return;
  sender_.send(peer->endpoint->get(),
               sender_.make(message_kind::fetch_cancel, encode(fetch_cancel_header{number(operation.id)})));
}

void fetches::on_data(connection& from, std::span<const std::byte> header,
                      std::span<const std::byte> payload) {
  const auto data = parse_fetch_data(header);
  if (!data) return peers_.break_off(from, data.error());
  auto* operation = find(operation_id{data->operation});
  if (operation == nullptr || operation->peer != from.id || operation->method != fetch_method::pushed) return;
  operation->bytes_done += operation->sink.accept(data->chunk, payload, destination_of(*operation));
  if (operation->watcher) operation->sink.show(*operation->watcher, arena_.bytes(), operation->results);
  if (operation->sink.complete()) conclude(*operation);
}

void fetches::on_refused(const connection& from, std::span<const std::byte> header) {
  const auto refused = parse_fetch_refused(header);
  if (!refused) return;
  auto* operation = find(operation_id{refused->operation});
  if (operation == nullptr || operation->peer != from.id || operation->ended_by) return;
  operation->ended_by = error_of_refusal(refused->reason);
  conclude(*operation);
}

}  // namespace weft::fabric
