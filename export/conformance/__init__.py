"""What a server of an exported model must do, as checks over gRPC that run against tensorflow_model_server and `export.serve` alike."""
