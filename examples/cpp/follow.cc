// Follows what is in a box on the first picture through a folder of JPEGs, and prints the area of each object on each.
//
//   build/follow localhost:50051 frames/ 120,80,200,160 [masks/]
//
// Stub and messages are generated from the proto. Frames are sent as they lie on disk, by a thread of their own, so that
// frames and answers overlap; the server takes as many as it likes, which is what holds the sender back. Answers come as
// runs, which are decoded here. With a folder for masks each is written as a PGM picture, grey value = object id.

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "maskstream/v1/maskstream.grpc.pb.h"

namespace fs = std::filesystem;
namespace v1 = maskstream::v1;

constexpr uint64_t kFirstFrameSeq = 2;  // 1 is `open`

struct Box {
  unsigned x, y, width, height;
};

std::vector<fs::path> JpegsIn(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto suffix = entry.path().extension();
    if (suffix == ".jpg" || suffix == ".jpeg") found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  if (found.empty()) throw std::runtime_error(folder.string() + ": no JPEG in it");
  return found;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Row-major runs to one byte a pixel.
std::string Decode(const v1::Mask& mask) {
  const auto& runs = mask.label_runs();
  std::string pixels;
  for (int i = 0; i < runs.lengths_size(); ++i) pixels.append(runs.lengths(i), runs.values()[i]);
  if (pixels.size() != size_t{mask.width()} * mask.height()) throw std::runtime_error("the runs do not fill the mask");
  return pixels;
}

void Report(const fs::path& frame, const v1::FrameResult& result, const fs::path& masks) {
  const auto pixels = Decode(result.label_map());
  std::map<unsigned, size_t> areas;
  for (const unsigned char id : pixels) {
    if (id) ++areas[id];
  }
  std::cout << frame.filename().string();
  for (const auto& [id, area] : areas) std::cout << ' ' << id << ':' << area;
  std::cout << '\n';
  if (masks.empty()) return;
  std::ofstream file(masks / frame.filename().replace_extension(".pgm"), std::ios::binary);
  file << "P5 " << result.label_map().width() << ' ' << result.label_map().height() << " 255\n" << pixels;
}

using Call = grpc::ClientReaderWriter<v1::PropagateRequest, v1::PropagateResponse>;

void SendAll(Call& call, const std::vector<fs::path>& frames, const Box& box) {
  for (size_t i = 0; i < frames.size(); ++i) {
    v1::PropagateRequest request;
    request.set_seq(kFirstFrameSeq + i);
    request.mutable_frame()->set_jpeg(ReadFile(frames[i]));
    if (i == 0) {
      auto* prompt = request.mutable_frame()->mutable_prompts()->add_objects();
      prompt->set_object_id(1);
      prompt->mutable_box()->set_x(box.x);
      prompt->mutable_box()->set_y(box.y);
      prompt->mutable_box()->set_width(box.width);
      prompt->mutable_box()->set_height(box.height);
    }
    if (!call.Write(request)) return;  // the stream has ended; Finish tells why
  }
  call.WritesDone();
}

grpc::Status Follow(const std::string& target, const fs::path& folder, const Box& box, const fs::path& masks) {
  const auto frames = JpegsIn(folder);
  const auto stub = v1::MaskStreamService::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto call = stub->Propagate(&context);
  v1::PropagateRequest open;
  open.set_seq(1);
  open.mutable_open()->set_delivery(v1::DELIVERY_POLICY_LOSSLESS);
  call->Write(open);
  std::thread sender([&] { SendAll(*call, frames, box); });
  v1::PropagateResponse response;
  while (call->Read(&response)) {
    if (response.has_result()) {
      Report(frames[response.result().seq() - kFirstFrameSeq], response.result(), masks);
    } else if (response.has_error()) {
      std::cerr << response.error().reason() << ": " << response.error().message() << '\n';
    }
  }
  sender.join();
  return call->Finish();
}

int main(int argc, char** argv) {
  Box box{};
  if (argc < 4 || std::sscanf(argv[3], "%u,%u,%u,%u", &box.x, &box.y, &box.width, &box.height) != 4) {
    std::cerr << "usage: follow HOST:PORT FOLDER X,Y,WIDTH,HEIGHT [MASKS]\n";
    return 2;
  }
  const fs::path masks = argc > 4 ? argv[4] : "";
  if (!masks.empty()) fs::create_directories(masks);
  try {
    const auto status = Follow(argv[1], argv[2], box, masks);
    if (!status.ok()) std::cerr << status.error_message() << '\n';
    return status.ok() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
