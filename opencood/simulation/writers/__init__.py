"""Writers: each turns recorded scenarios into the files of one data set format (registered kind ``writer``)."""
