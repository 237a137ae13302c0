"""Why a tag was given: attention to time and box, glimpse by glimpse, over the frames, and on a page of all videos.

In: predictions with attention, videos, a model. Out: accounts, pictures, a report. Imports all rooms but cli."""
