"""What trained models do on single videos, and which errors their detections make."""
