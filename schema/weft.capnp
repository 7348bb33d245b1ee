# The service that clients of a cluster talk to. docs/rpc.md explains the exchange.
#
# Rules for changes: methods and fields are only added, at the end; none is renumbered, removed or given another
# meaning. What a client must know before it can go on raises the major version.
@0xc1ffb48d6358d78f;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("weft::schema::wire");

using Id128 = import "id.capnp".Id128;

const protocolMajor :UInt16 = 1;
const protocolMinor :UInt16 = 0;

const chunkBytes :UInt32 = 262144;
# What a writer should put into one chunk; no message may be larger than 4 MiB.

# -- the first exchange ------------------------------------------------------------------------------------

interface Gateway {
  # The bootstrap capability: all that an unknown client can reach.

  connect @0 (hello :Hello) -> (session :Session, welcome :Welcome);
  # An unknown major version and a wrong token are refused. Everything else is a method of the session, which
  # may be called before the answer is here.
}

struct Hello {
  major @0 :UInt16;
  minor @1 :UInt16;
  token @2 :Data;   # the cluster's client secret; empty where none is set
  client @3 :Text;  # for people who read logs
}

struct Welcome {
  major @0 :UInt16;
  minor @1 :UInt16;
  software @2 :Text;  # "weft 0.1.0"
  textBytesMax @3 :UInt64;
  blockBytesMax @4 :UInt64;
}

# -- streams -----------------------------------------------------------------------------------------------

interface ByteSink {
  write @0 (chunk :Data) -> stream;
  end @1 ();
  # Returns once every chunk before it has been taken.
}

interface ProgressSink {
  update @0 (done :UInt64, total :UInt64) -> stream;
}

interface TokenSink {
  tokens @0 (pieces :List(TokenPiece)) -> stream;
  end @1 ();
}

struct TokenPiece {
  id @0 :Int32;
  text @1 :Data;  # bytes this token adds to the answer; may end within a character
}

# -- the session -------------------------------------------------------------------------------------------

interface Session {
  ping @0 ();

  ingest @1 (request :IngestRequest) -> (upload :DocumentUpload);
  # The text goes through the upload, its result comes from there.
  documents @2 (call :Call) -> (documents :List(DocumentInfo));
  drop @3 (document :Id128, call :Call);
  pin @4 (document :Id128, call :Call);
  unpin @5 (document :Id128, call :Call);

  generate @6 (request :GenerateRequest, tokens :TokenSink, call :Call) -> (result :GenerateResult);
  # `tokens` may be null. Every token has been delivered when this returns.

  lookup @7 (keys :List(Id128), call :Call) -> (blocks :List(BlockInfo));
  # One entry for each key, in the order of the keys.
  put @8 (key :Id128, layout :BlockLayout, bytes :UInt64) -> (upload :BlockUpload);
  get @9 (key :Id128, sink :ByteSink, call :Call) -> (layout :BlockLayout, bytes :UInt64, checksum :UInt64);

  status @10 (call :Call) -> (status :ClusterStatus);
}

struct Call {
  deadlineMs @0 :UInt64;  # from now; 0: the server's own limit
}

# -- documents ---------------------------------------------------------------------------------------------

struct IngestRequest {
  name @0 :Data;
  textBytes @1 :UInt64;   # that will be written
  importance @2 :Text;    # policy; empty: the cluster's default
  ratio @3 :Float64 = -1; # negative: not given
  bands @4 :List(Float64); # where bands end, ascending; empty: the default
  codecs @5 :List(Text);   # of the bands: one name for all of them or one for each; empty: raw
}

interface DocumentUpload extends(ByteSink) {
  finish @0 (checksum :UInt64, progress :ProgressSink, call :Call) -> (document :DocumentInfo);
  # `checksum`: XXH3-64 of the text. `progress` may be null.
}

struct DocumentInfo {
  id @0 :Id128;
  name @1 :Data;
  tokens @2 :UInt64;
  blocks @3 :UInt64;
  bytes @4 :UInt64;
  holders @5 :List(Text);
  importance @6 :Text;
  bandRatios @7 :List(Float64);
  ms @8 :Float64;
  pinned @9 :Bool;
  servedRatio @10 :Float64 = -1;   # largest band ratio whose bytes are all held; 0: not even the first band's
  bandBytes @11 :List(UInt64);     # of bands 0..i of all blocks, one copy; empty where not known
}

# -- questions ---------------------------------------------------------------------------------------------

struct GenerateRequest {
  question @0 :Data;
  documents @1 :List(Id128);
  system @2 :Data;
  stitch @3 :Text;        # policy; empty: the cluster's default
  retrieval @4 :Text;     # policy; empty: all documents, dense
  ratio @5 :Float64 = -1; # negative: not given
  maxTokens @6 :UInt32;
  temperature @7 :Float64;
  topP @8 :Float64 = 1;
  seed @9 :UInt64;
  sparseRatio @10 :Float64 = -1;  # of the blocks that `retrieval` chooses among; negative: not given
  retrieve @11 :UInt32;           # choose so many documents of the pool; 0: `documents` names them
  stride @12 :UInt32;             # steps of a period of `retrieval`; 0: not given
  scale @13 :Text;                # what its products are divided by; empty: not given
  judge @14 :Text;                # surrogate that judges rows of question and answer; empty: all of them stay
  threshold @15 :Float64 = nan;   # in ln(kvzip_plus): rows that it gives less go; not a number: not given
  parts @16 :List(PromptPart);    # what stands between system text and question; empty: `documents`
}

struct PromptPart {
  union {
    document @0 :Id128;
    text @1 :Data;  # computed where it stands
  }
}

struct GenerateResult {
  answer @0 :Data;
  tokens @1 :List(Int32);
  promptTokens @2 :UInt64;
  recomputedRows @3 :UInt64;
  ttftMs @4 :Float64;
  loadMs @5 :Float64;
  rotateMs @6 :Float64;
  computeMs @7 :Float64;
  decodeTokensPerS @8 :Float64;
  transfers @9 :List(Transfer);
  misses @10 :UInt64;
  cacheBytes @11 :UInt64;  # what the allocator was asked for the session's rows
  fullBytes @12 :UInt64;   # of blocks that would have crossed the wire without a ratio
  sparse @13 :Sparse;  # null: decoded densely
  retrieved @14 :List(RetrievedDocument);  # those that were chosen, best first; empty: they were named
  rankedDocuments @15 :UInt64;             # that they were chosen among
  unrankedDocuments @16 :UInt64;           # of the pool, that could not be ranked
  retrieveMs @17 :Float64;                 # to choose; a part of ttftMs
  judgedRows @18 :UInt64;                  # of question and answer, in all layers and heads
  droppedRows @19 :UInt64;                 # of them
  computedRows @20 :UInt64;  # of the prompt, in place: not of documents that were encoded
  reusedRows @21 :UInt64;    # of the prompt, that an earlier question had computed
}

struct RetrievedDocument {
  id @0 :Id128;
  name @1 :Data;
  score @2 :Float64;  # comparable within one answer only
}

# What sparse decoding did. Blocks are those of one layer.
struct Sparse {
  middleBlocks @0 :UInt64;    # that may be chosen
  chosenBlocks @1 :UInt64;    # of them, in each layer
  retrievalNodes @2 :UInt64;
  rankings @3 :UInt64;
  blocksMoved @4 :UInt64;     # for decoding
  lateFetches @5 :UInt64;
  staleRankings @6 :UInt64;
  blocksLost @7 :UInt64;
  cacheBytes @8 :UInt64;
}

struct Transfer {
  holder @0 :Text;
  transport @1 :Text;
  path @2 :Text;
  bytes @3 :UInt64;
}

# -- blocks of engines that bring their own KV -------------------------------------------------------------

struct BlockLayout {
  descriptor @0 :Data;    # the engine's own words; compared as bytes
  fingerprint @1 :Id128;  # of the model
  tokens @2 :UInt32;
}

struct BlockInfo {
  key @0 :Id128;
  present @1 :Bool;
  bytes @2 :UInt64;
  holders @3 :List(Text);
}

interface BlockUpload extends(ByteSink) {
  commit @0 (checksum :UInt64, call :Call);
  # `checksum`: XXH3-64 of the bytes. Returns once the block is committed.
}

# -- status ------------------------------------------------------------------------------------------------

struct ClusterStatus {
  epoch @0 :UInt64;
  nodes @1 :List(NodeStatus);
}

struct NodeStatus {
  name @0 :Text;
  pid @1 :Int64;
  alive @2 :Bool;
  incarnation @3 :UInt64;
  roles @4 :List(Text);
  dram @5 :PoolUse;
  file @6 :PoolUse;
  peers @7 :List(Peer);
  counters @8 :List(Counter);
}

struct PoolUse {
  usedBytes @0 :UInt64;
  capacityBytes @1 :UInt64;
}

struct Peer {
  name @0 :Text;
  transport @1 :Text;
  path @2 :Text;
  gbPerS @3 :Float64;
}

struct Counter {
  name @0 :Text;
  value @1 :Int64;
}
