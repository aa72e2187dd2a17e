#include "delivery/reports/report_mail.h"

#include "base/base64.h"
#include "mail/header.h"

#include <algorithm>
#include <zlib.h>

namespace postrider::delivery {

std::string gzip(std::string_view bytes) {
  constexpr int kGzip = 15 + 16;  // the largest window, and gzip's frame
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) !=
      Z_OK)
    return {};
  std::string out(deflateBound(&stream, static_cast<uLong>(bytes.size())), '\0');
  std::string in(bytes);
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int ended = deflate(&stream, Z_FINISH);
  out.resize(ended == Z_STREAM_END ? stream.total_out : 0);
  deflateEnd(&stream);
  return out;
}

std::string attachment_text(std::string_view compressed) {
  constexpr std::size_t kLine = 76;
  const auto encoded = encode_base64(compressed);
  std::string out;
  out.reserve(encoded.size() + encoded.size() / kLine * 2 + 2);
  for (std::string_view rest = encoded; !rest.empty();
       rest.remove_prefix(std::min(kLine, rest.size())))
    out.append(rest.substr(0, kLine)).append("\r\n");
  return out;
}

std::string report_message(const AttachedReport& report, std::string_view attachment,
                           mail::MessageId id, TimePoint now) {
  std::string out = "Date: " + mail::format_date(now);
  out += "\r\nFrom: <" + report.contact + ">\r\nTo: <" + report.to + ">\r\nSubject: ";
  out += report.subject + "\r\nMessage-ID: " + mail::make_message_id(id, report.submitter);
  out += "\r\n" + report.fields + "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n";
  out += "Content-Type: " + report.content_type + ";\r\n\tboundary=\"" + report.boundary +
         "\"\r\n\r\nThis is a report in MIME format.\r\n";
  out += "\r\n--" + report.boundary + "\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n";
  out += report.sentence;
  out += "\r\n--" + report.boundary + "\r\nContent-Type: " + report.part_type + ";\r\n\tname=\"" +
         report.file;
  out += "\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n";
  out += "\tfilename=\"" + report.file + "\"\r\n\r\n";
  out += attachment;
  return out + "\r\n--" + report.boundary + "--\r\n";
}

}  // namespace postrider::delivery
