"""AttachmentService: files taken in and given out."""

from turnwire.v1.attachment_service_pb2_grpc import AttachmentServiceServicer
from turnwired.services.unimplemented import unimplemented


class AttachmentService(AttachmentServiceServicer):
    """Source: proto/turnwire/v1/attachment_service.proto."""

    UploadAttachment = unimplemented
    GetAttachment = unimplemented
    DownloadAttachment = unimplemented
    DeleteAttachment = unimplemented
